"""Updates that wait on disk for a rule that looks at all of them, and all of them as one object for the reducer.

The file has no name: the kernel removes it with the process. It is mapped for reading, so that updates take no memory
that the kernel cannot have back.
"""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from fedn.combiner.buffers import spool_full
from fedn.combiner.objects import StoredObject
from fedn.models.digest import Hasher
from fedn.network.frames import CHUNK_BYTES, encode_piece
from fedn.network.generated import common_pb2 as wire


class SpillFile:
    """See the module. `fedn.aggregation.gathering.base.Spill`, for one thread at a time; `close` it in any case."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, prefix="updates-")  # noqa: SIM115 - closed by `close`
        self._size_bytes = 0
        self._view: memoryview | None = None

    def append(self, row: memoryview) -> None:
        if self._view is not None:
            raise ValueError("the spilled updates were read already")
        at, rest = self._size_bytes, row
        try:
            os.posix_fallocate(self._file.fileno(), at, len(row))
            while rest:
                written = os.pwrite(self._file.fileno(), rest, at)
                at, rest = at + written, rest[written:]
        except OSError as error:
            raise spool_full(len(row), error) from error
        self._size_bytes = at

    def whole(self) -> memoryview:
        if self._view is None:
            if not self._size_bytes:
                return memoryview(b"")
            mapped = mmap.mmap(self._file.fileno(), self._size_bytes, prot=mmap.PROT_READ)
            self._view = memoryview(mapped)
        return self._view

    def close(self) -> None:
        """The mapping goes with the last view of it."""
        self._file.close()
        self._view = None


class _Messages(Sequence[tuple[int, bytes]]):
    """The messages of an object, each made when it is asked for."""

    def __init__(self, rows: Sequence[memoryview]) -> None:
        self._rows = rows
        self._row_bytes = len(rows[0])
        self._each = -(-self._row_bytes // CHUNK_BYTES)
        """Messages of a row."""

    def __len__(self) -> int:
        return len(self._rows) * self._each

    @overload
    def __getitem__(self, at: int) -> tuple[int, bytes]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[tuple[int, bytes]]: ...
    def __getitem__(self, at: int | slice) -> tuple[int, bytes] | Sequence[tuple[int, bytes]]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        if not 0 <= at < len(self):
            raise IndexError(at)
        row, part = divmod(at, self._each)
        begin = part * CHUNK_BYTES
        offset = row * self._row_bytes + begin
        return offset, encode_piece(offset, self._rows[row][begin : begin + CHUNK_BYTES])


def bundle(rows: Sequence[memoryview], algorithm: str) -> StoredObject:
    """All updates as one object: each behind the other, all of one size. At least one."""
    hasher = Hasher(algorithm)
    for row in rows:
        hasher.update(row)
    size_bytes = sum(len(row) for row in rows)
    return StoredObject(hasher.digest(), wire.OBJECT_KIND_MODEL, size_bytes, _Messages(rows))
