"""Where the bytes of an update lie between the network and the sum: in the messages that brought them, or in a spool
file.

What arrived in memory is not copied again: the sum reads it where gRPC put it. A spool file has no name: the kernel
removes it with its last descriptor, also after a kill.
"""

import asyncio
import mmap
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from fedn.models.pieces import Pieces
from fedn.protocol.errors import LimitExceeded

_SMALL_PIECE_BYTES = 1 << 15
"""Pieces shorter than that are put together: a peer that sends single bytes must not cost an object for each."""
_JOINED_BYTES = 1 << 20
_WINDOW_BYTES = 16 << 20
"""So much of a spool file is mapped into memory at a time."""


class Storage(Protocol):
    """Room for one update. It is written from its beginning, without gaps."""

    size_bytes: int
    """What there is room for."""

    def write(self, offset: int, data: memoryview) -> asyncio.Future[None] | None:
        """Takes the next bytes over: those at `offset`, or from 0 on those of a new beginning.

        None where that is done; else a future, before whose end `data` must not change. `data` may be kept.
        LimitExceeded (`spool_full`), also from the future, where the disk has no room.
        """

    def pieces(self) -> Pieces:
        """What was written so far, from the first byte on. To be read before `release` and before more is written."""

    def release(self) -> None:
        """Gives the room back; once."""


class MemoryStorage:
    """The pieces as they came. `on_release` gets the size back as credit."""

    def __init__(self, size_bytes: int, on_release: Callable[[int], None]) -> None:
        self.size_bytes = size_bytes
        self._parts: list[memoryview] = []
        self._open: bytearray | None = None
        """The last part, where small pieces are put together."""
        self._on_release: Callable[[int], None] | None = on_release

    def write(self, offset: int, data: memoryview) -> None:
        if offset == 0:
            self._parts.clear()
            self._open = None
        if len(data) >= _SMALL_PIECE_BYTES:
            self._open = None
            self._parts.append(data)
        elif self._open is not None and len(self._open) < _JOINED_BYTES:
            self._parts.pop().release()  # a bytearray that is viewed cannot grow
            self._open += data
            self._parts.append(memoryview(self._open))
        else:
            self._open = bytearray(data)
            self._parts.append(memoryview(self._open))

    def pieces(self) -> Pieces:
        return Pieces(tuple(self._parts))

    def release(self) -> None:
        if self._on_release is not None:
            self._parts.clear()
            self._open = None
            self._on_release(self.size_bytes)
            self._on_release = None


class Spool:
    """Makes spool files in one folder. One thread does all their input and output, so that it is in order."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fedn-spool")

    async def create(self, size_bytes: int) -> "SpoolStorage":
        """Room in a file. LimitExceeded (`spool_full`) where the disk has none."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, SpoolStorage, self._folder, size_bytes, self._thread)

    @property
    def folder(self) -> Path:
        return self._folder

    def close(self) -> None:
        self._thread.shutdown()


class SpoolStorage:
    """A file of its final size from the start, mapped for reading."""

    def __init__(self, folder: Path, size_bytes: int, thread: Executor) -> None:
        self.size_bytes = size_bytes
        self._thread = thread
        self._file = tempfile.TemporaryFile(dir=folder, prefix="update-")  # noqa: SIM115 - closed by `release`
        self._map: mmap.mmap | None = None
        try:
            os.posix_fallocate(self._file.fileno(), 0, size_bytes)
            self._map = mmap.mmap(self._file.fileno(), size_bytes, prot=mmap.PROT_READ)
        except OSError as error:
            self._file.close()
            raise spool_full(size_bytes, error) from error

    def write(self, offset: int, data: memoryview) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._write, offset, data)

    def _write(self, offset: int, data: memoryview) -> None:
        try:
            while data:
                written = os.pwrite(self._file.fileno(), data, offset)
                offset, data = offset + written, data[written:]
        except OSError as error:
            raise spool_full(self.size_bytes, error) from error

    def pieces(self) -> Pieces:
        if self._map is None:
            raise ValueError("the spool file was released")
        view = memoryview(self._map)
        parts = [view[start : start + _WINDOW_BYTES] for start in range(0, self.size_bytes, _WINDOW_BYTES)]
        return Pieces(parts, self._forget)

    def _forget(self, start: int, stop: int) -> None:
        """What was read need not stay in this process's memory: the file has it."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def release(self) -> None:
        if not self._file.closed:
            # In the spool's thread: behind writes that are under way.
            self._thread.submit(self._close)

    def _close(self) -> None:
        self._file.close()
        self._map = None  # unmapped when the last view is gone


def spool_full(size_bytes: int, error: OSError) -> LimitExceeded:
    return LimitExceeded(
        "spool_full",
        f"there is no room for an update of {size_bytes} bytes on the combiner's disk: {error.strerror}",
        fix="Free space at the combiner's data_dir, or raise upload_memory_bytes.",
    )
