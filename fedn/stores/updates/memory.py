"""Updates in the combiner's own memory: gone with its process."""

from collections.abc import Sequence

from fedn.models.pieces import Pieces
from fedn.stores.updates.base import KeptUpdate
from fedn.stores.updates.store import lost


class MemoryShelf:
    """A `Shelf` in a dictionary."""

    def __init__(self) -> None:
        self._data: dict[int, tuple[KeptUpdate, bytes]] = {}

    def load(self) -> list[KeptUpdate]:
        return [update for update, _ in self._data.values()]

    def write(self, update: KeptUpdate, data: Pieces) -> None:
        self._data[update.number] = update, data.copy()

    def read(self, update: KeptUpdate) -> Pieces:
        if update.number not in self._data:
            raise lost(update)
        return Pieces.of(self._data[update.number][1])

    def remove(self, updates: Sequence[KeptUpdate]) -> None:
        for update in updates:
            self._data.pop(update.number, None)

    def close(self) -> None:
        self._data.clear()
