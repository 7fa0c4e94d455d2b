"""Which of a client's updates go when a new one comes."""

from collections.abc import Sequence
from typing import Protocol

from fedn.protocol.errors import InvalidInput
from fedn.stores.updates.base import KeptUpdate


class Eviction(Protocol):
    @property
    def longest(self) -> int | None:
        """Updates of a client that stay at the most; None: all."""

    def surplus(self, lineage: Sequence[KeptUpdate]) -> Sequence[KeptUpdate]:
        """What goes of a client's updates in one session.

        Args:
            lineage: old to new, the one that just came last.
        """


class NoEviction:
    """All stay, up to the store's bytes."""

    longest = None

    def surplus(self, lineage: Sequence[KeptUpdate]) -> Sequence[KeptUpdate]:
        return ()


class LineageLength:
    """The latest `length` of each client stay.

    Raises:
        InvalidInput: (`bad_option`) it is less than 1.
    """

    def __init__(self, length: int) -> None:
        if length < 1:
            raise InvalidInput("bad_option", f"A lineage of {length} updates is none", fix="Keep 1 at least.")
        self.longest = length

    def surplus(self, lineage: Sequence[KeptUpdate]) -> Sequence[KeptUpdate]:
        return lineage[: -self.longest]
