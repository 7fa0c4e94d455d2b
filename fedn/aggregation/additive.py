"""What rules have in common whose combiner models add up to the rule over all updates, readable by servers or not."""

from collections.abc import Sequence

from fedn.aggregation.extra import Extra
from fedn.models.codecs.base import Check
from fedn.protocol.tasks import UpdateMetadata


class Additive:
    """Each update counts with its weight alone; see `fedn.aggregation.base.Rule`."""

    decomposable = True
    needs: frozenset[Check] = frozenset()
    required: frozenset[str] = frozenset()
    needs_base = False
    gathers = False
    lineage = 0
    extras: Sequence[Extra] = ()
    is_numeric = True

    def share_of(self, metadata: UpdateMetadata) -> float:
        return 1.0

    def part_shares(self, parts: Sequence[Sequence[tuple[float, UpdateMetadata]]]) -> Sequence[float] | None:
        return None
