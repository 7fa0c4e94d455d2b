"""Objects (models, packages) as the combiners are sent them: read once, cut into pieces once, shared by all links."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fedn.models.digest import Hasher
from fedn.models.pieces import Pieces
from fedn.network.frames import CHUNK_BYTES, HEAD_BYTES, encode_piece
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import IntegrityError, LimitExceeded
from fedn.protocol.names import check_digest
from fedn.stores.base import ModelStore

_HELD_OBJECTS = 2


@dataclass(frozen=True)
class SharedObject:
    """An object's pieces, ready to be written to any stream."""

    object_id: str
    kind: wire.ObjectKind
    size_bytes: int
    pieces: tuple[bytes, ...]

    def begin(self) -> wire.ObjectBegin:
        return wire.ObjectBegin(object_id=self.object_id, kind=self.kind, size_bytes=self.size_bytes, offset=0)

    def data(self) -> Iterator[memoryview]:
        """Its bytes, piece by piece."""
        for piece in self.pieces:
            yield memoryview(piece)[HEAD_BYTES:]


class Cutter:
    """Cuts bytes that come bit by bit into the pieces of an object."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._rest = bytearray(CHUNK_BYTES)
        self._filled = 0

    def add(self, data: memoryview) -> None:
        """Takes the next bytes; they are copied."""
        while data:
            taken = data[: CHUNK_BYTES - self._filled]
            self._rest[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            data = data[len(taken) :]
            if self._filled == CHUNK_BYTES:
                self._cut()

    def _cut(self) -> None:
        if self._filled:
            self._pieces.append(encode_piece(self._size_bytes, memoryview(self._rest)[: self._filled]))
            self._size_bytes += self._filled
            self._filled = 0

    def shared(self, object_id: str, kind: wire.ObjectKind) -> SharedObject:
        """The object of all that was added."""
        self._cut()
        return SharedObject(object_id, kind, self._size_bytes, tuple(self._pieces))


class ObjectCache:
    """The objects that were sent last. Those beyond `keep_bytes` together are let go of, but for the newest one.

    Args:
        execute: runs a call that reads the store, in a thread.
    """

    def __init__(
        self,
        store: ModelStore,
        execute: Callable[[Callable[[], SharedObject]], Awaitable[SharedObject]],
        keep_bytes: int = 64 << 20,
    ) -> None:
        self._store = store
        self._execute = execute
        self._keep_bytes = keep_bytes
        self._objects: OrderedDict[str, SharedObject] = OrderedDict()
        self._loading: dict[str, asyncio.Future[SharedObject]] = {}
        self._promised: dict[str, asyncio.Event] = {}
        self._held: OrderedDict[str, SharedObject] = OrderedDict()
        """Objects that no store has."""

    def add(self, shared: SharedObject) -> None:
        self._objects[shared.object_id] = shared
        self._objects.move_to_end(shared.object_id)
        size_bytes = sum(held.size_bytes for held in self._objects.values())
        while size_bytes > self._keep_bytes and len(self._objects) > 1:
            _, gone = self._objects.popitem(last=False)
            size_bytes -= gone.size_bytes

    def hold(self, shared: SharedObject) -> None:
        """Keeps an object that no store has, until two others took its place: a round and the next may be under way."""
        self._held[shared.object_id] = shared
        self._held.move_to_end(shared.object_id)
        while len(self._held) > _HELD_OBJECTS:
            self._held.popitem(last=False)

    def promise(self, object_id: str) -> Callable[[], None]:
        """An object is on its way into the store: who asks for it waits until the function that is returned is called.

        It is to be called in any case; where the object did not come, it is not found.
        """
        promised = self._promised.setdefault(object_id, asyncio.Event())

        def settle() -> None:
            promised.set()
            if self._promised.get(object_id) is promised:
                del self._promised[object_id]

        return settle

    async def get(self, object_id: str, kind: wire.ObjectKind) -> SharedObject:
        """The object, read from the store where it is not held; several callers share one reading."""
        if object_id in self._held:
            return self._held[object_id]
        promised = self._promised.get(object_id)
        if object_id not in self._objects and promised is not None:
            await promised.wait()
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


class Sink(Protocol):
    """Where the bytes of a download go. They come in order, from byte 0 on; from there again after damage."""

    def take(self, offset: int, data: memoryview) -> None: ...

    def finish(self) -> str:
        """All bytes were taken: why they are not what they should be, or "" where they are, or nobody knows yet."""


class Download:
    """An object on its way from a combiner, which goes on after a cut where it stopped. Belongs to the loop."""

    def __init__(self, object_id: str, size_bytes: int, sink: Sink) -> None:
        self.object_id = object_id
        self.size_bytes = size_bytes
        self.received = 0
        self.done = asyncio.Event()
        """All bytes are here."""
        self.damages = 0
        """Times that it arrived as something else."""
        self.on_progress: Callable[[], None] = lambda: None
        self._sink = sink

    def feed(self, offset: int, data: memoryview) -> None:
        """Takes the next piece. IntegrityError where it is out of order, or the whole is something else."""
        if offset != self.received or offset + len(data) > self.size_bytes:
            raise self.damaged(f"a piece at {offset} came where {self.received} was expected")
        self._sink.take(offset, data)
        self.received += len(data)
        self.on_progress()
        if self.received == self.size_bytes:
            if why := self._sink.finish():
                self.restart()
                raise self.damaged(why)
            self.done.set()

    def restart(self) -> None:
        """It is fetched again from its first byte on."""
        self.received = 0
        self.done.clear()

    def damaged(self, why: str) -> IntegrityError:
        """Counts it; the error that says so."""
        self.damages += 1
        return IntegrityError(
            "transfer_damaged",
            f"an object did not arrive as it was sent: {why}",
            fix="It is fetched again; if this repeats, look at the network between the tiers.",
            where={"object": self.object_id},
        )


class InMemory:
    """A sink that keeps an object in the messages that brought it, hashed as it comes."""

    def __init__(self, object_id: str) -> None:
        self._object_id = object_id
        self._algorithm, _ = check_digest(object_id)
        self._hasher = Hasher(self._algorithm)
        self._parts: list[memoryview] = []

    def take(self, offset: int, data: memoryview) -> None:
        if not offset:
            self._hasher = Hasher(self._algorithm)
            self._parts = []
        self._hasher.update(data)
        self._parts.append(data)

    def finish(self) -> str:
        return "" if self._hasher.digest() == self._object_id else "its digest is another one"

    def pieces(self) -> Pieces:
        """What came."""
        return Pieces(self._parts)


def check_size(object_id: str, size_bytes: int, max_bytes: int) -> None:
    """LimitExceeded (`model_too_large`) where an object is larger than is allowed."""
    if size_bytes > max_bytes:
        raise LimitExceeded(
            "model_too_large",
            f"a combiner model of {size_bytes} bytes is larger than the {max_bytes} that are allowed",
            fix="Raise the reducer's setting max_model_bytes.",
            where={"object": object_id},
        )
