"""Rules that go by what clients sent in earlier rounds too.

Such a rule names how many of each client's latest updates it goes by (`Rule.lineage`). Who runs it keeps these updates,
and tells the rule's aggregate how what counts of a client changes: a first update, a new one, a departure.

Not here: where the updates are kept (fedn.stores.updates), and whose count (the combiner).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from fedn.aggregation.base import Rule
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec


class Row(NamedTuple):
    """An update that counts."""

    model: Pieces
    """Like a combiner model (`fedn.aggregation.rows`)."""
    weight: float
    """Of its scaling factor; finite, > 0."""


class LineageAggregate(Protocol):
    """What the rule makes of the updates that count now, of all clients; used by one thread at a time.

    The law: what it stands for depends on the lineages that count, up to a bounded rounding, and not on the order in
    which they came to count.
    """

    @property
    def weight(self) -> float:
        """Sum of the weights of what counts."""

    @property
    def drifted(self) -> bool:
        """Whether rounding may show: then it is to be made anew from all the lineages that count."""

    def replace(self, before: Sequence[Row], after: Sequence[Row]) -> None:
        """Changes what counts of one client.

        Args:
            before: its lineage as it was given last, old to new; empty where nothing of the client counted.
            after: its lineage now, at most `Rule.lineage` updates; empty where it left.

        Raises:
            InvalidInput: (`bad_weight`); nothing is changed. UpdateRefused: (`update_does_not_fit`) the same.
        """

    def result(self, piece_bytes: int) -> Iterator[memoryview]:
        """The combiner model, as `fedn.aggregation.base.Aggregate.result`."""


class LineageRule(Rule, Protocol):
    """A rule with `lineage` > 0. `start` is not for it; `start_lineage` is."""

    def start_lineage(self, rows: ModelSpec) -> LineageAggregate:
        """The empty aggregate.

        Args:
            rows: spec of every row.
        """
