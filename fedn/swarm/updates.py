"""Updates that are made while they are sent: the base model plus a constant, piece by piece, never whole in memory."""

import threading
from bisect import bisect_right
from typing import Any, NamedTuple

import numpy as np

from fedn.models.digest import Hasher
from fedn.models.wire import DTYPES, DType, ModelSpec
from fedn.network.frames import CHUNK_BYTES, encode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import InvalidInput
from fedn.swarm.models import SharedModel

_FLOATS = {DTYPES[name] for name in ("F16", "BF16", "F32", "F64")}


class _Run(NamedTuple):
    """Bytes of the model that are treated in one way."""

    start: int
    stop: int
    dtype: DType | None
    """Of floating-point numbers, to which the constant is added; None: bytes that stay as they are."""


class _Scratch(threading.local):
    """Memory used before: fresh memory costs several times what a piece costs."""

    def __init__(self) -> None:
        self.piece = np.empty(0, np.uint8)

    def room(self, size_bytes: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        if len(self.piece) < size_bytes:
            self.piece = np.empty(max(size_bytes, CHUNK_BYTES), np.uint8)
        return self.piece[:size_bytes]


_scratch = _Scratch()


class GeneratedUpdate:
    """The bytes of `model` with `constant` added to every floating-point number.

    The digest has to be known before the first byte is sent, and the bytes are nowhere: they are made once to be
    hashed, and again to be sent, which costs less than to read them from a disk.
    """

    def __init__(self, model: SharedModel, constant: float) -> None:
        self.size_bytes = model.spec.size_bytes
        self._model = model
        self._constant = constant
        self._runs = _runs(model.spec)
        self._starts = [run.start for run in self._runs]

    def piece(self, start: int, stop: int) -> memoryview:
        """The bytes from `start` to `stop`. Valid until the next call in the same thread."""
        room = _scratch.room(stop - start)
        for run in self._runs[max(bisect_right(self._starts, start) - 1, 0) :]:
            if run.start >= stop:
                break
            begin, end = max(start, run.start), min(stop, run.stop)
            if begin < end:
                self._fill(run, begin, end, room[begin - start : end - start])
        return room.data

    def digest(self, algorithm: str) -> str:
        """Of all bytes: one pass over them."""
        hasher = Hasher(algorithm)
        for start in range(0, self.size_bytes, CHUNK_BYTES):
            hasher.update(self.piece(start, min(start + CHUNK_BYTES, self.size_bytes)))
        return hasher.digest()

    def _fill(self, run: _Run, begin: int, end: int, room: "np.ndarray[Any, np.dtype[np.uint8]]") -> None:
        buffer = self._model.buffer
        if run.dtype is None:
            room[:] = np.frombuffer(buffer, np.uint8, end - begin, begin)
            return
        # A piece may begin and end within a number: all that it touches are made, and cut to size.
        itemsize = run.dtype.itemsize
        first, last = (begin - run.start) // itemsize, -((run.start - end) // itemsize)
        base: np.ndarray[Any, Any] = np.frombuffer(buffer, run.dtype, last - first, run.start + first * itemsize)
        constant = run.dtype.type(self._constant)
        if (last - first) * itemsize == end - begin:
            np.add(base, constant, out=room.view(run.dtype))
            return
        skipped = begin - run.start - first * itemsize
        room[:] = np.add(base, constant).view(np.uint8)[skipped : skipped + end - begin]


class Sending:
    """One update on its way, from the offset that a grant names: pieces, then UploadEnd, then nothing.

    Args:
        chunk_bytes: size of the pieces.
        bytes_per_s: of a slow link; 0: as fast as it goes.
        cut_at: offset at which the client vanishes; None: it does not.
        granted: False where it is sent on the task's credit, without a grant and without an UploadEnd.

    Raises:
        InvalidInput: (`bad_frame`) the offset lies outside the update.
    """

    def __init__(
        self,
        task_id: str,
        update: GeneratedUpdate,
        offset: int,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        bytes_per_s: float = 0.0,
        cut_at: int | None = None,
        granted: bool = True,
    ) -> None:
        if offset > update.size_bytes:
            raise InvalidInput("bad_frame", f"a grant from {offset}, the result has {update.size_bytes} bytes")
        self.task_id = task_id
        self.offset = offset
        self.cut_at = cut_at
        self.bytes_per_s = bytes_per_s
        self._update = update
        self._chunk_bytes = chunk_bytes
        self._ended = not granted

    def next_message(self) -> bytes | None:
        update, start = self._update, self.offset
        if start < update.size_bytes:
            self.offset = min(start + self._chunk_bytes, update.size_bytes)
            return encode_piece(start, update.piece(start, self.offset))
        if self._ended:
            return None
        self._ended = True
        return wire.ClientFrame(upload_end=wire.UploadEnd(task_id=self.task_id)).SerializeToString()

    @property
    def paced(self) -> bool:
        """Whether something may happen behind each piece: then none leaves together with others."""
        return bool(self.bytes_per_s) or self.cut_at is not None

    @property
    def cut(self) -> bool:
        """Whether the client vanishes now."""
        return self.cut_at is not None and self.offset >= self.cut_at


def _runs(spec: ModelSpec) -> list[_Run]:
    """The model's bytes, all of them, in order; neighbours of one kind as one."""
    runs: list[_Run] = []
    position = min((tensor.start for tensor in spec.tensors), default=spec.size_bytes)
    pieces = [_Run(0, position, None)]
    pieces += [_Run(t.start, t.stop, t.dtype if t.dtype in _FLOATS else None) for t in spec.stored_order]
    for piece in pieces:
        if piece.start == piece.stop:
            continue
        if runs and _alike(runs[-1].dtype, piece.dtype) and runs[-1].stop == piece.start:
            runs[-1] = _Run(runs[-1].start, piece.stop, piece.dtype)
        else:
            runs.append(piece)
    return runs


def _alike(one: DType | None, other: DType | None) -> bool:
    # Compared with None, NumPy's float64 says that it is the same.
    return one == other if one is not None and other is not None else one is other
