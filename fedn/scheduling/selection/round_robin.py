"""Everybody's turn comes."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from fedn.plan.option_values import OptionValues, read_values
from fedn.scheduling.selection.base import Candidate, Cohort, Draw, first


class RoundRobin:
    """A fixed number of clients in turn: those that were not asked for longest; the order of a turn is drawn once."""

    name = "round_robin"
    uses_past = True

    class Options(OptionValues):
        count: int = Field(ge=1)
        """Clients of each round; all, where fewer are attached."""

    def __init__(self, **options: Any) -> None:
        self._count = read_values("selection", self.name, self.Options, options).count

    @property
    def most(self) -> int:
        return self._count

    def select(self, candidates: Sequence[Candidate], draw: Draw, limit: int | None) -> Cohort:
        order = Draw(draw.seed, 0)  # the same in each round

        def turn(one: Candidate) -> tuple[int, int, bytes]:
            # A round may have ended one turn and begun the next: of those that it asked, the former are asked first.
            return -1 if one.last_asked is None else one.last_asked, one.times_asked, order.rank(one.client)

        ranked = [one.client for one in sorted(candidates, key=turn)]
        size = min(self._count, len(ranked))
        return first(ranked, size, limit, f"it is not its turn: {size} of {len(ranked)} clients take part in a round")
