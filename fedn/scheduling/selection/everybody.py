"""All clients take part, or a uniform sample of `clients_requested`."""

from collections.abc import Sequence
from typing import Any

from fedn.plan.option_values import NoValues, read_values
from fedn.scheduling.selection.base import Candidate, Cohort, Draw, first


class All:
    """Every attached client that can train; with `clients_requested`, a uniform sample of so many."""

    name = "all"
    uses_past = False
    most = None
    Options = NoValues

    def __init__(self, **options: Any) -> None:
        read_values("selection", self.name, NoValues, options)

    def select(self, candidates: Sequence[Candidate], draw: Draw, limit: int | None) -> Cohort:
        ranked = sorted((one.client for one in candidates), key=draw.rank)
        return first(ranked, len(ranked), limit, "")
