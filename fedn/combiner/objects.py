"""Models and packages that the combiner holds, as the messages that carry them.

The messages in which an object arrived are kept and handed to every stream as they are: a model costs its size once,
however many clients get it. What rounds need is pinned; the rest goes when there is too much of it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from fedn.combiner.options import KEEP_OBJECT_BYTES, KEEP_OBJECTS
from fedn.models.digest import Hasher
from fedn.models.pieces import Pieces
from fedn.network.frames import CHUNK_BYTES, decode_piece, encode_piece
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import IntegrityError, LimitExceeded
from fedn.protocol.names import check_digest


@dataclass(frozen=True)
class StoredObject:
    """An object, whole. `pieces` are (offset, message), in order and without gaps."""

    object_id: str
    kind: wire.ObjectKind
    size_bytes: int
    pieces: Sequence[tuple[int, bytes]]

    def begin(self, offset: int = 0) -> wire.ObjectBegin:
        return wire.ObjectBegin(object_id=self.object_id, kind=self.kind, size_bytes=self.size_bytes, offset=offset)

    def messages(self, offset: int = 0) -> Iterator[bytes]:
        """The messages of the bytes from `offset` on. All but perhaps the first are those that everybody gets."""
        return (message for _, message in self.sized_messages(offset))

    def sized_messages(self, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """As `messages`, each with how many of the object's bytes it carries."""
        pieces = iter(self.pieces)
        piece = next(pieces, None)
        while piece is not None:
            (start, message), piece = piece, next(pieces, None)
            end = self.size_bytes if piece is None else piece[0]
            if start >= offset:
                yield end - start, message
            elif end > offset:
                yield end - offset, encode_piece(offset, _data_of(message)[offset - start :])

    def beginning(self, object_id: str, size_bytes: int) -> "StoredObject":
        """What its first bytes are by themselves: an object of that name, in the same messages as far as they reach."""
        pieces = []
        for start, message in self.pieces:
            if start >= size_bytes:
                break
            data = _data_of(message)
            whole = start + data.nbytes <= size_bytes
            pieces.append((start, message if whole else encode_piece(start, data[: size_bytes - start])))
        return StoredObject(object_id, self.kind, size_bytes, tuple(pieces))

    def bytes_in_pieces(self) -> Pieces:
        """The object's bytes, where they lie in the messages."""
        return Pieces([_data_of(message) for _, message in self.pieces])


def _data_of(message: bytes) -> memoryview:
    piece = decode_piece(message)
    assert piece is not None  # only pieces are kept
    return piece[1]


def cut(kind: wire.ObjectKind, parts: Iterable[memoryview], algorithm: str) -> StoredObject:
    """An object from its bytes in order, each copied once, into the messages. It is named by their digest.

    Args:
        parts: of CHUNK_BYTES each, but the last; read one after the other, each before the next is asked for.
    """
    hasher = Hasher(algorithm)
    pieces: list[tuple[int, bytes]] = []
    offset = 0
    for part in parts:
        hasher.update(part)
        pieces.append((offset, encode_piece(offset, part)))
        offset += part.nbytes
    return StoredObject(hasher.digest(), kind, offset, tuple(pieces))


def evenly(pieces: Pieces) -> Iterator[memoryview]:
    """The same bytes in parts as `cut` wants them; those that do not lie so already are copied."""
    for start in range(0, len(pieces), CHUNK_BYTES):
        views = list(pieces.views(start, start + CHUNK_BYTES))
        yield views[0] if len(views) == 1 else memoryview(b"".join(views))


class IncomingObject:
    """An object that arrives over the reducer's stream, hashed as it comes."""

    def __init__(self, begin: wire.ObjectBegin, max_bytes: int) -> None:
        algorithm, _ = check_digest(begin.object_id)
        if begin.size_bytes > max_bytes:
            raise LimitExceeded(
                "object_too_large",
                f"an object of {begin.size_bytes} bytes is larger than the {max_bytes} that are allowed",
                fix="Raise the combiner's setting max_model_bytes.",
                where={"object": begin.object_id},
            )
        self._begin = begin
        self._hasher = Hasher(algorithm)
        self._pieces: list[tuple[int, bytes]] = []
        self._received = 0

    @property
    def object_id(self) -> str:
        return self._begin.object_id

    def feed(self, offset: int, data: memoryview, message: bytes) -> StoredObject | None:
        """Keeps the message of the next piece; the object, once it is whole. IntegrityError where it is damaged."""
        if offset != self._received or offset + len(data) > self._begin.size_bytes:
            raise self._damaged(f"a piece at {offset} came where {self._received} was expected")
        self._hasher.update(data)
        self._pieces.append((offset, message))
        self._received += len(data)
        return self.whole()

    def whole(self) -> StoredObject | None:
        if self._received < self._begin.size_bytes:
            return None
        if self._hasher.digest() != self.object_id:
            raise self._damaged("its digest is another one")
        return StoredObject(self.object_id, self._begin.kind, self._received, tuple(self._pieces))

    def _damaged(self, why: str) -> IntegrityError:
        return IntegrityError(
            "transfer_damaged",
            f"an object did not arrive as it was sent: {why}",
            fix="The reducer sends it again; if this repeats, look at the network between the tiers.",
            where={"object": self.object_id},
        )


class ObjectCache:
    """The objects at hand. `max_bytes` and KEEP_OBJECTS bound those that nobody pins, except the one used last."""

    def __init__(self, max_bytes: int = KEEP_OBJECT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._objects: OrderedDict[str, StoredObject] = OrderedDict()
        self._pins: dict[str, set[Hashable]] = {}
        self._listeners: list[Callable[[str], None]] = []

    def __contains__(self, object_id: str) -> bool:
        return object_id in self._objects

    @property
    def held_bytes(self) -> int:
        return sum(stored.size_bytes for stored in self._objects.values())

    def on_arrival(self, listener: Callable[[str], None]) -> None:
        """`listener` is told the digest of every object that is added."""
        self._listeners.append(listener)

    def get(self, object_id: str) -> StoredObject | None:
        stored = self._objects.get(object_id)
        if stored is not None:
            self._objects.move_to_end(object_id)
        return stored

    def add(self, stored: StoredObject) -> None:
        self._objects.setdefault(stored.object_id, stored)
        self._objects.move_to_end(stored.object_id)
        self._evict()
        for listener in self._listeners:
            listener(stored.object_id)

    def pin(self, object_id: str, owner: Hashable) -> None:
        """Keeps an object, also one that has yet to arrive, until `owner` unpins it."""
        self._pins.setdefault(object_id, set()).add(owner)

    def unpin(self, owner: Hashable) -> None:
        """Lets go of all that `owner` pinned."""
        for object_id in [key for key, owners in self._pins.items() if owner in owners]:
            self._pins[object_id].discard(owner)
            if not self._pins[object_id]:
                del self._pins[object_id]
        self._evict()

    def let_go(self, object_id: str, owner: Hashable) -> None:
        """Unpins one object. A large one goes at once if nobody else pins it: its room is needed for what comes."""
        owners = self._pins.get(object_id, set())
        owners.discard(owner)
        if owners:
            return
        self._pins.pop(object_id, None)
        stored = self._objects.get(object_id)
        if stored is not None and stored.size_bytes > self._max_bytes:
            del self._objects[object_id]

    def _evict(self) -> None:
        """Drops what nobody pins, the longest unused first, until it is few and small; never the one used last."""
        idle = [stored for key, stored in self._objects.items() if key not in self._pins]
        newest = next(reversed(self._objects), None)
        size_bytes = sum(stored.size_bytes for stored in idle)
        for position, stored in enumerate(idle):
            if size_bytes <= self._max_bytes and len(idle) - position <= KEEP_OBJECTS:
                return
            if stored.object_id != newest:
                del self._objects[stored.object_id]
                size_bytes -= stored.size_bytes
