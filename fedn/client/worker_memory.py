"""The memory of a worker that outlives tasks: where a task's model is copied to, and the files results are written to.

Memory that was used before is several times faster than fresh memory. Both are given anew wherever somebody else may
still look at them.
"""

import errno
import os
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedn.client.slots import FOOTER_BYTES, HeldFile, Slot
from fedn.client.worker_channel import INLINE_BYTES
from fedn.models.wire import Tensors, encode_into, layout
from fedn.protocol.errors import TaskFailed

_TOO_LARGE = 4
"""Memory so many times larger than a model is not kept for it."""
_OWN_REFERENCES = 2
"""To the memory, when no task has any: the attribute, and the argument of `getrefcount`."""
_MAPPED_FILES = 3
_KEPT_MAPPED_BYTES = 256 << 20


class ModelMemory:
    """A private copy of a task's model, which a learner may change in place.

    The same memory serves task after task. Arrays of a model refer to it: while one of an earlier task is alive (a
    learner may keep what it was given, as may a tensor of a framework that shares the memory), the memory is left to
    them, and another is taken.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def read(self, path: str, size_bytes: int) -> memoryview:
        """The first bytes of a file. EOFError where it is shorter; OSError."""
        view = self.take(size_bytes)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = 0
            while offset < size_bytes:
                count = os.preadv(descriptor, [view[offset:]], offset)
                if not count:
                    raise EOFError(f"{path} has {offset} bytes instead of {size_bytes}")
                offset += count
        finally:
            os.close(descriptor)
        return view

    def take(self, size_bytes: int) -> memoryview:
        """Room for so many bytes, whatever they are."""
        have_bytes = self._memory.nbytes
        in_use = sys.getrefcount(self._memory) > _OWN_REFERENCES
        if in_use or not size_bytes <= have_bytes <= size_bytes * _TOO_LARGE:
            self._memory = np.empty(0, np.uint8)  # the old one goes first
            self._memory = np.empty(size_bytes, np.uint8)
        return self._memory[:size_bytes].data


class ResultFiles:
    """The agent's files for results, mapped: the same few come again and again."""

    def __init__(self) -> None:
        self._slots: OrderedDict[str, Slot] = OrderedDict()

    def open(self, path: str, size_bytes: int) -> memoryview:
        """The first bytes of a file, to be written; the file grows if it must. OSError where there is no room."""
        slot = self._slots.pop(path, None)
        if slot is None:
            slot = Slot(Path(path))
            while len(self._slots) >= _MAPPED_FILES:
                self._slots.popitem(last=False)
        slot.reserve(size_bytes + FOOTER_BYTES)
        if slot.size_bytes <= _KEPT_MAPPED_BYTES:
            self._slots[path] = slot
        return slot.view(size_bytes)


class TaskMemory:
    """Where one task's model and result go; see `fedn.client.coding.Memory`.

    Args:
        path: of the file for a large result.
    """

    def __init__(self, models: ModelMemory, results: ResultFiles, path: str) -> None:
        self._models = models
        self._results = results
        self._path = path

    def copy(self, file: HeldFile) -> memoryview:
        """TaskFailed (`model_unreadable`)."""
        try:
            return self._models.read(str(file.path), file.size_bytes)
        except (OSError, EOFError) as error:
            raise TaskFailed("model_unreadable", f"the task's model cannot be read: {error}") from error

    def model(self, size_bytes: int) -> memoryview:
        return self._models.take(size_bytes)

    def result(self, size_bytes: int) -> memoryview:
        """In the file, or in memory where it is small. TaskFailed (`disk_full`, `spool_failed`)."""
        if size_bytes <= INLINE_BYTES:
            return memoryview(bytearray(size_bytes))
        try:
            return self._results.open(self._path, size_bytes)
        except OSError as error:
            raise TaskFailed(
                "disk_full" if error.errno == errno.ENOSPC else "spool_failed",
                f"the result of {size_bytes} bytes cannot be written: {error.strerror}",
                fix="Make room on the disk of the client's data_dir.",
            ) from error

    def written(self, tensors: Tensors | bytes | bytearray | memoryview, extras: Mapping[str, Tensors]) -> "Written":
        """The bytes of a result, where they are taken from; a view is one of `result` already.

        Args:
            extras: what follows tensors that are not bytes yet, by name.
        """
        if isinstance(tensors, memoryview):
            return Written(tensors)
        if isinstance(tensors, dict):
            return self._sections(tensors, extras) if extras else Written(encode_into(tensors, self.result))
        room = self.result(len(tensors))
        room[:] = tensors
        return Written(room)

    def _sections(self, tensors: Tensors, extras: Mapping[str, Tensors]) -> "Written":
        sizes = [
            layout((name, array.dtype, array.shape) for name, array in one.items())[1].size_bytes
            for one in (tensors, *extras.values())
        ]
        room, at = self.result(sum(sizes)), 0
        for one, size_bytes in zip((tensors, *extras.values()), sizes, strict=True):
            part = room[at : at + size_bytes]
            encode_into(one, lambda _, part=part: part)  # type: ignore[misc]
            at += size_bytes
        told = [{"name": name, "size_bytes": size} for name, size in zip(extras, sizes[1:], strict=True)]
        return Written(room, told)


@dataclass(frozen=True)
class Written:
    """A result's bytes."""

    data: memoryview
    extras: list[dict[str, Any]] = field(default_factory=list)
    """Name and `size_bytes` of each section that follows the result's own tensors in there."""
