"""What is kept of an update, and where the bytes may lie.

Not here: which updates are kept, and how many bytes of them (fedn.stores.updates.store).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from fedn.models.pieces import Pieces
from fedn.protocol.tasks import Frozen


class UpdateFacts(Frozen):
    """What is known of an update when it is given to the store."""

    session: str
    client: str
    round_index: int = Field(ge=0)
    update_id: str
    """Digest of the update as the client sent it; the trail names it so."""
    base_model_id: str
    num_examples: int = Field(ge=0)
    weight: float = Field(gt=0, allow_inf_nan=False)
    """What it is multiplied by in a sum."""


class KeptUpdate(UpdateFacts):
    """An update in the store. Of two, that with the higher number came later."""

    number: int = Field(ge=0)
    object_id: str
    """Digest of the bytes that are kept."""
    size_bytes: int = Field(ge=0)
    kept_at: float
    """Unix time in seconds."""


@dataclass(frozen=True)
class UpdateStoreStatistics:
    entries: int
    size_bytes: int
    """Of all that is kept, without what the back end needs for itself."""


class Shelf(Protocol):
    """A place for bytes that one combiner alone writes to. Calls block; one at a time.

    Every method raises StoreUnavailable where the place does not answer in time or has no room (`store_full`).
    """

    def load(self) -> list[KeptUpdate]:
        """All updates that are there whole, in no order; the remains of others are removed."""

    def write(self, update: KeptUpdate, data: Pieces) -> None:
        """Keeps a copy of the bytes: whole, or as if nothing had been written."""

    def read(self, update: KeptUpdate) -> Pieces:
        """The bytes, unchecked; good after it was removed too. NotFound (`kept_update_lost`) where they are gone."""

    def remove(self, updates: Sequence[KeptUpdate]) -> None:
        """Forgets them; nothing happens where they are gone."""

    def close(self) -> None: ...
