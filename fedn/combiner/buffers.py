"""Where the bytes of an update lie between the network and the sum: pooled memory, or a spool file.

First writes to fresh memory cost five times as much as writes to memory used before, so buffers are kept and reused.
A spool file has no name: the kernel removes it with its last descriptor, also after a kill.
"""

import asyncio
import mmap
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedn.protocol.errors import LimitExceeded


class Storage(Protocol):
    """Room for one update of a size that is known."""

    size_bytes: int

    def write(self, offset: int, data: memoryview) -> asyncio.Future[None] | None:
        """Takes bytes over. None where that is done; else a future, before whose end `data` must not change.

        LimitExceeded (`spool_full`), also from the future, where the disk has no room.
        """

    def view(self) -> memoryview:
        """All `size_bytes` bytes; those not yet written have any value. Valid until `release`."""

    def release(self) -> None:
        """Gives the room back; once. The views must be gone."""


class BufferPool:
    """Buffers that go round. `kept_bytes` bounds what lies unused; what is in use is bounded by its users."""

    def __init__(self, kept_bytes: int) -> None:
        self._kept_bytes = kept_bytes
        self._free: list[NDArray[np.uint8]] = []
        self._free_bytes = 0

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """A buffer of at least that size, the best fitting one of those at hand."""
        fitting = [b for b in self._free if size_bytes <= b.nbytes <= 2 * size_bytes + 4096]
        if not fitting:
            # np.empty asks for huge pages and does not clear: a fresh buffer costs as little as it can.
            return np.empty(size_bytes, np.uint8)
        buffer = min(fitting, key=lambda b: b.nbytes)
        self._free = [b for b in self._free if b is not buffer]
        self._free_bytes -= buffer.nbytes
        return buffer

    def give(self, buffer: NDArray[np.uint8]) -> None:
        """Takes a buffer back; the longest unused ones go where too much would lie around."""
        self._free.append(buffer)
        self._free_bytes += buffer.nbytes
        while self._free_bytes > self._kept_bytes:
            self._free_bytes -= self._free.pop(0).nbytes


class MemoryStorage:
    """A pooled buffer. `on_release` gets the size back as credit."""

    def __init__(self, pool: BufferPool, size_bytes: int, on_release: Callable[[int], None]) -> None:
        self.size_bytes = size_bytes
        self._pool = pool
        self._buffer: NDArray[np.uint8] | None = pool.take(size_bytes)
        self._view = self._buffer.data[:size_bytes]
        self._on_release = on_release

    def write(self, offset: int, data: memoryview) -> None:
        self._view[offset : offset + len(data)] = data

    def view(self) -> memoryview:
        return self._view

    def release(self) -> None:
        if self._buffer is not None:
            self._pool.give(self._buffer)
            self._buffer = None
            self._on_release(self.size_bytes)


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
            raise _spool_full(size_bytes, error) from error

    def write(self, offset: int, data: memoryview) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._write, offset, data)

    def _write(self, offset: int, data: memoryview) -> None:
        try:
            while data:
                written = os.pwrite(self._file.fileno(), data, offset)
                offset, data = offset + written, data[written:]
        except OSError as error:
            raise _spool_full(self.size_bytes, error) from error

    def view(self) -> memoryview:
        if self._map is None:
            raise ValueError("the spool file was released")
        return memoryview(self._map)

    def release(self) -> None:
        if not self._file.closed:
            # In the spool's thread: behind writes that are under way.
            self._thread.submit(self._close)

    def _close(self) -> None:
        self._file.close()
        self._map = None  # unmapped when the last view is gone


def _spool_full(size_bytes: int, error: OSError) -> LimitExceeded:
    return LimitExceeded(
        "spool_full",
        f"there is no room for an update of {size_bytes} bytes on the combiner's disk: {error.strerror}",
        fix="Free space at the combiner's data_dir, or raise upload_memory_bytes.",
    )
