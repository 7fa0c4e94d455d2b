"""Clients that say certain things of themselves."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from fedn.plan.option_values import read_values
from fedn.scheduling.selection.base import Candidate, Cohort, Draw, Size, first

Value = str | int | float | bool


class Attributes:
    """Clients with given attributes: all of them, or a uniform sample of those."""

    name = "attributes"
    uses_past = False

    class Options(Size):
        where: dict[str, Value | list[Value]] = Field(min_length=1)
        """Attribute to its value, or to a list of values any of which will do; a client must fit all of them."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("selection", self.name, self.Options, options)
        self._where = {
            key: tuple(_text(value) for value in (wanted if isinstance(wanted, list) else [wanted]))
            for key, wanted in self._options.where.items()
        }

    @property
    def most(self) -> int | None:
        return self._options.count

    def select(self, candidates: Sequence[Candidate], draw: Draw, limit: int | None) -> Cohort:
        misfits = {one.client: why for one in candidates if (why := self._misfit(one))}
        ranked = sorted((one.client for one in candidates if one.client not in misfits), key=draw.rank)
        size = self._options.of(len(ranked))
        why = f"the plan draws {size} of {len(ranked)} clients that have the attributes"
        cohort = first(ranked, size, limit, why)
        return Cohort(cohort.clients, {**cohort.left_out, **misfits})

    def _misfit(self, candidate: Candidate) -> str:
        """What does not fit, as a sentence; "" where all does."""
        for key, wanted in self._where.items():
            found = candidate.attributes.get(key)
            if found not in wanted:
                has = "it has none" if found is None else f"its is {found[:100]}"
                return f"the plan wants clients whose attribute {key} is {' or '.join(wanted)}, and {has}"
        return ""


def _text(value: Value) -> str:
    """As clients say it."""
    return value if isinstance(value, str) else json.dumps(value)
