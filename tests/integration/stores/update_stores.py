"""Update stores for tests, of every kind, and updates to put into them."""

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedn.models.pieces import Pieces
from fedn.stores.updates.base import Shelf, UpdateFacts
from fedn.stores.updates.eviction import Eviction, LineageLength
from fedn.stores.updates.files import FileShelf
from fedn.stores.updates.memory import MemoryShelf
from fedn.stores.updates.redis import RedisShelf, connect, name_space
from fedn.stores.updates.store import UpdateStore

PART_BYTES = 1000
"""So small that updates of tests have several."""
OpenShelf = Callable[[], Shelf]
OpenStore = Callable[..., UpdateStore]


def shelf_opener(kind: str, folder: Path, redis_url: Callable[[], str]) -> OpenShelf:
    """Opens a shelf of the kind; each call the same place once more."""
    memory = MemoryShelf()
    combiner = uuid.uuid4().hex
    return {
        "memory": lambda: memory,
        "files": lambda: FileShelf(folder / "updates"),
        "redis": lambda: RedisShelf(connect(redis_url()), name_space("fed*[1]", combiner), PART_BYTES),
    }[kind]


def store_on(shelf: Shelf, eviction: Eviction | None = None, max_bytes: int = 1 << 30) -> UpdateStore:
    return UpdateStore(shelf, eviction or LineageLength(2), max_bytes, clock=lambda: 1000.0)


def facts(client: str, round_index: int = 0, session: str = "s", weight: float = 2.5) -> UpdateFacts:
    return UpdateFacts(
        session=session,
        client=client,
        round_index=round_index,
        update_id="blake3:" + "1" * 64,
        base_model_id="blake3:" + "2" * 64,
        num_examples=7,
        weight=weight,
    )


def data(seed: int, size: int = 4321) -> Pieces:
    """Bytes in pieces of several sizes."""
    view = memoryview(np.random.default_rng(seed).bytes(size))
    return Pieces([view[:10], view[10:2000], view[2000:]])
