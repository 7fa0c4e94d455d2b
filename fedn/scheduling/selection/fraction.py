"""A part of the clients (C of McMahan et al. 2017, Algorithm 1; MetisFL's participation ratio)."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from fedn.plan.option_values import OptionValues, read_values
from fedn.scheduling.selection.base import Candidate, Cohort, Draw, first, part_of


class Fraction:
    """A uniform sample of a fixed part of the clients (participation ratio; McMahan et al. 2017)."""

    name = "fraction"
    uses_past = False
    most = None

    class Options(OptionValues):
        fraction: float = Field(gt=0, le=1)
        """Part of the attached clients that take part in each round, rounded up."""

    def __init__(self, **options: Any) -> None:
        self._fraction = read_values("selection", self.name, self.Options, options).fraction

    def select(self, candidates: Sequence[Candidate], draw: Draw, limit: int | None) -> Cohort:
        ranked = sorted((one.client for one in candidates), key=draw.rank)
        size = part_of(self._fraction, len(ranked))
        return first(ranked, size, limit, f"the plan draws {size} of {len(ranked)} clients")
