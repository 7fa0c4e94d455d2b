"""A sample in which some clients are drawn more often than others."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from fedn.plan.option_values import read_values
from fedn.scheduling.selection.base import Candidate, Cohort, Draw, Size, first

NUM_EXAMPLES = "num_examples"


class Weighted:
    """A sample without replacement, in which a client's chance grows with its weight (Efraimidis & Spirakis 2006)."""

    name = "weighted"
    uses_past = True

    class Options(Size):
        by: str = Field(default=NUM_EXAMPLES, min_length=1)
        """What weighs: `num_examples` of a client's latest update (before its first one, the mean of the others), or an
        attribute of the clients that is a number above 0."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("selection", self.name, self.Options, options)

    @property
    def most(self) -> int | None:
        return self._options.count

    def select(self, candidates: Sequence[Candidate], draw: Draw, limit: int | None) -> Cohort:
        """Each client's key is ln(u) / weight with u uniform in (0, 1); those with the largest keys take part."""
        weights = self._weights(candidates)
        keys = {client: math.log(draw.uniform(client)) / weight for client, weight in weights.items()}
        ranked = sorted(sorted(keys), key=lambda client: keys[client], reverse=True)
        size = self._options.of(len(ranked))
        by = self._options.by
        cohort = first(ranked, size, limit, f"the plan draws {size} of {len(ranked)} clients, weighted by {by}")
        unusable = f"the plan draws clients by their attribute {by}, and this one's is no number above 0"
        without = {one.client: unusable for one in candidates if one.client not in weights}
        return Cohort(cohort.clients, {**cohort.left_out, **without})

    def _weights(self, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        by = self._options.by
        if by != NUM_EXAMPLES:
            given = {one.client: _number(one.attributes.get(by, "")) for one in candidates}
            return {client: weight for client, weight in given.items() if weight > 0}
        known = {one.client: float(one.latest.num_examples) for one in candidates if one.latest is not None}
        known = {client: examples for client, examples in known.items() if examples > 0}
        usual = sum(known.values()) / len(known) if known else 1.0
        return {one.client: known.get(one.client, usual) for one in candidates}


def _number(text: str) -> float:
    """0 where it is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0
