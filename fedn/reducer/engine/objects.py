"""Objects (models, packages) as the combiners are sent them: read once, cut into pieces once, shared by all links."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from fedn.models.digest import Hasher
from fedn.network.frames import CHUNK_BYTES, encode_piece
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import IntegrityError, LimitExceeded
from fedn.protocol.names import check_digest
from fedn.stores.base import ModelStore


@dataclass(frozen=True)
class SharedObject:
    """An object's pieces, ready to be written to any stream."""

    object_id: str
    kind: wire.ObjectKind
    size_bytes: int
    pieces: tuple[bytes, ...]

    def begin(self) -> wire.ObjectBegin:
        return wire.ObjectBegin(object_id=self.object_id, kind=self.kind, size_bytes=self.size_bytes, offset=0)


def share(object_id: str, kind: wire.ObjectKind, data: bytes | bytearray | memoryview) -> SharedObject:
    """Cuts bytes that are in memory; they are copied once, into the pieces."""
    view = memoryview(data)
    pieces = tuple(encode_piece(at, view[at : at + CHUNK_BYTES]) for at in range(0, len(view), CHUNK_BYTES))
    return SharedObject(object_id, kind, len(view), pieces)


class ObjectCache:
    """The objects that were sent last, bounded by number: a round needs its base model and its package."""

    def __init__(
        self, store: ModelStore, execute: Callable[[Callable[[], SharedObject]], Awaitable[SharedObject]], keep: int = 2
    ) -> None:
        self._store = store
        self._execute = execute
        self._keep = keep
        self._objects: OrderedDict[str, SharedObject] = OrderedDict()
        self._loading: dict[str, asyncio.Future[SharedObject]] = {}

    def add(self, shared: SharedObject) -> None:
        self._objects[shared.object_id] = shared
        self._objects.move_to_end(shared.object_id)
        while len(self._objects) > self._keep:
            self._objects.popitem(last=False)

    async def get(self, object_id: str, kind: wire.ObjectKind) -> SharedObject:
        """The object, read from the store where it is not held; several callers share one reading."""
        if object_id in self._objects:
            self._objects.move_to_end(object_id)
            return self._objects[object_id]
        task = self._loading.get(object_id)
        if task is None:
            task = asyncio.ensure_future(self._execute(lambda: self._load(object_id, kind)))
            self._loading[object_id] = task
            task.add_done_callback(lambda _: self._loading.pop(object_id, None))
        shared = await asyncio.shield(task)
        self.add(shared)
        return shared

    def _load(self, object_id: str, kind: wire.ObjectKind) -> SharedObject:
        size = self._store.stat(object_id).size_bytes
        pieces, offset = [], 0
        for data in self._checked(object_id, size):
            pieces.append(encode_piece(offset, data))
            offset += len(data)
        return SharedObject(object_id, kind, size, tuple(pieces))

    def _checked(self, object_id: str, size: int) -> Iterator[bytes]:
        hasher, seen = Hasher(check_digest(object_id)[0]), 0
        for data in self._store.read(object_id):
            hasher.update(data)
            seen += len(data)
            yield data
        if seen != size or hasher.digest() != object_id:
            raise IntegrityError(
                "stored_object_damaged",
                "an object in the model store is not what its digest says",
                fix="Restore the model store from a backup.",
                where={"object": object_id},
            )


class Download:
    """An object on its way from a combiner: one buffer, hashed as it fills; goes on after a cut where it stopped."""

    def __init__(self, object_id: str, size_bytes: int, max_bytes: int) -> None:
        if size_bytes > max_bytes:
            raise LimitExceeded(
                "model_too_large",
                f"a combiner model of {size_bytes} bytes is larger than the {max_bytes} that are allowed",
                fix="Raise the reducer's setting max_model_bytes.",
                where={"object": object_id},
            )
        self.object_id = object_id
        self.buffer = bytearray(size_bytes)
        self.received = 0
        self.done = asyncio.Event()
        self.damages = 0
        """Times that it arrived as something else."""
        self.on_progress: Callable[[], None] = lambda: None
        self._hasher = Hasher(check_digest(object_id)[0])

    def feed(self, offset: int, data: memoryview) -> None:
        """Takes the next piece. IntegrityError where it is out of order, or the whole has another digest."""
        if offset != self.received or offset + len(data) > len(self.buffer):
            raise self._damaged(f"a piece at {offset} came where {self.received} was expected")
        self.buffer[offset : offset + len(data)] = data
        self._hasher.update(data)
        self.received += len(data)
        self.on_progress()
        if self.received == len(self.buffer):
            if self._hasher.digest() != self.object_id:
                self._hasher, self.received = Hasher(check_digest(self.object_id)[0]), 0
                raise self._damaged("its digest is another one")
            self.done.set()

    def _damaged(self, why: str) -> IntegrityError:
        self.damages += 1
        return IntegrityError(
            "transfer_damaged",
            f"an object did not arrive as it was sent: {why}",
            fix="It is fetched again; if this repeats, look at the network between the tiers.",
            where={"object": self.object_id},
        )
