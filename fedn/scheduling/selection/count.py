"""A fixed number of clients, drawn anew in each round."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from fedn.plan.option_values import OptionValues, read_values
from fedn.scheduling.selection.base import Candidate, Cohort, Draw, first


class Count:
    """A uniform sample of a fixed number of clients."""

    name = "count"
    uses_past = False

    class Options(OptionValues):
        count: int = Field(ge=1)
        """Clients of each round; all, where fewer are attached."""

    def __init__(self, **options: Any) -> None:
        self._count = read_values("selection", self.name, self.Options, options).count

    @property
    def most(self) -> int:
        return self._count

    def select(self, candidates: Sequence[Candidate], draw: Draw, limit: int | None) -> Cohort:
        ranked = sorted((one.client for one in candidates), key=draw.rank)
        size = min(self._count, len(ranked))
        return first(ranked, size, limit, f"the plan draws {size} of {len(ranked)} clients")
