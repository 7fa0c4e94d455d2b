"""Files that are written through a shared mapping and used again, so that their pages stay warm.

A fresh file costs an inode, its blocks and a page fault for every 4 KiB; one that was there before costs nothing. A
footer at the end of the file says what the file holds. Mapped pages outlive a killed process, so the footer does, too:
it is written after what it speaks of, and taken away before that is overwritten. After a power cut nothing is sure, and
who finds a footer of an earlier process verifies what it says.

Room on the disk is taken before a page is written: a write to a mapping finds no room only by a deadly signal.
"""

import errno
import itertools
import mmap
import os
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_FOOTER = struct.Struct("<QQ80s8s")
FOOTER_BYTES = _FOOTER.size
NAME = "slot-"
"""What the names of slots begin with; a number follows."""
_NOTHING = bytes(8)
_SMALLEST_BYTES = 1 << 16
_ROUND_BYTES = 1 << 12
_TOO_LARGE = 8
"""A slot so many times larger than what it would hold is not used for it, if it is larger than the next figure."""
_NEVER_TOO_LARGE_BYTES = 1 << 24


class Footer(NamedTuple):
    """Two numbers and a text (of at most 80 bytes), as the one who writes it means them."""

    first: int
    second: int
    text: str
    end: int
    """Bytes before the footer."""


@dataclass(frozen=True)
class HeldFile:
    """Bytes at the beginning of a file, which they may not fill. Nobody writes to them."""

    path: Path
    size_bytes: int
    slot: "Slot | None" = field(default=None, compare=False, repr=False)
    """Where the file is one of ours, mapped already."""

    def mapped(self) -> memoryview:
        """The bytes, to be read. OSError or ValueError where the file has gone, or is empty."""
        if self.slot is not None:
            return self.slot.view(self.size_bytes).toreadonly()
        with open(self.path, "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # goes with the last view of it
        return memoryview(mapping)[: self.size_bytes]


class Slot:
    """One file. It is opened and mapped when that is needed, and then stays so until `release`.

    Args:
        path: of a file that exists; `SlotFolder.create` makes one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapping: mmap.mmap | None = None

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return os.stat(self.path).st_size if self._mapping is None else len(self._mapping)

    @property
    def mapping(self) -> mmap.mmap:
        """All of the file, to read and to write. OSError or ValueError where the file has gone or is empty."""
        if self._mapping is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._mapping = mmap.mmap(descriptor, 0)
            finally:
                os.close(descriptor)
        return self._mapping

    def view(self, size_bytes: int) -> memoryview:
        """The first bytes, in place; to be released before the slot is used for anything else."""
        return memoryview(self.mapping)[:size_bytes]

    def fits(self, size_bytes: int) -> bool:
        """Whether it is not far too large for so many bytes."""
        return self.size_bytes <= max(size_bytes * _TOO_LARGE, _NEVER_TOO_LARGE_BYTES)

    def reserve(self, size_bytes: int) -> None:
        """Makes the file so long at least, with room on the disk. OSError where there is none (ENOSPC …)."""
        if self._mapping is not None and len(self._mapping) >= size_bytes:
            return
        have_bytes = os.stat(self.path).st_size
        if size_bytes > have_bytes:
            wanted_bytes = -(-size_bytes // _ROUND_BYTES) * _ROUND_BYTES
            if wanted_bytes - have_bytes > shutil.disk_usage(self.path.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.posix_fallocate(descriptor, 0, wanted_bytes)
            finally:
                os.close(descriptor)
        self.release()

    def refresh(self) -> None:
        """Notices that another process has made the file longer."""
        if self._mapping is not None and len(self._mapping) != os.stat(self.path).st_size:
            self.release()

    def store(self, data: bytes | bytearray | memoryview) -> None:
        """Writes its content. OSError as `reserve`."""
        self.reserve(len(data) + FOOTER_BYTES)
        self.mapping[: len(data)] = data

    def write_footer(self, kind: bytes, first: int, second: int, text: str = "") -> None:
        """Says what the file holds; `kind`, 8 bytes, says what is meant."""
        mapping = self.mapping
        _FOOTER.pack_into(mapping, len(mapping) - FOOTER_BYTES, first, second, text.encode(), kind)

    def clear_footer(self) -> None:
        """The file holds nothing."""
        mapping = self.mapping
        mapping[len(mapping) - len(_NOTHING) :] = _NOTHING

    def unlink(self) -> None:
        """The file is not needed any more."""
        self.release()
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Lets the mapping go, which closes it, if need be after the last view. It is made again when needed."""
        self._mapping = None


def read_footer(path: Path, kind: bytes) -> Footer | None:
    """The footer of a file; None where it has none of that kind. OSError."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END) - FOOTER_BYTES
        if end < 0:
            return None
        file.seek(end)
        first, second, text, found = _FOOTER.unpack(file.read(FOOTER_BYTES))
    if found != kind:
        return None
    return Footer(first, second, text.rstrip(b"\0").decode(errors="replace"), end)


class SlotFolder:
    """The slots of a folder, and those among them that hold nothing.

    Args:
        folder: exists, and belongs to one process. A name is given once in that process's life.
        max_free, max_free_bytes: > 0; what lies unused beyond that is given up.
    """

    def __init__(self, folder: Path, *, max_free: int = 2, max_free_bytes: int = 2 << 30) -> None:
        self._folder = folder
        self._max_free = max_free
        self._max_free_bytes = max_free_bytes
        self._free: list[Slot] = []
        taken = [path.name.removeprefix(NAME) for path in folder.glob(f"{NAME}*")]
        self._numbers = itertools.count(max((int(name) for name in taken if name.isdecimal()), default=0) + 1)

    def create(self, size_bytes: int) -> Slot:
        """A new file, its footer included in the size. OSError (ENOSPC): nothing is left behind then."""
        path = self._folder / f"{NAME}{next(self._numbers)}"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        slot = Slot(path)
        try:
            slot.reserve(max(size_bytes, _SMALLEST_BYTES))
        except OSError:
            slot.unlink()
            raise
        return slot

    def take(self, size_bytes: int) -> Slot:
        """A slot for so many bytes, its footer included: a free one or a new one. OSError (ENOSPC)."""
        fitting = [slot for slot in self._free if slot.fits(size_bytes)]
        if not fitting:
            return self.create(size_bytes)
        # The smallest that needs not grow, or else the largest.
        slot = min(fitting, key=lambda slot: (slot.size_bytes < size_bytes, abs(slot.size_bytes - size_bytes)))
        self._free.remove(slot)
        try:
            slot.reserve(size_bytes)
        except OSError:
            slot.unlink()
            raise
        return slot

    def give_back(self, slot: Slot) -> None:
        """What the slot holds is not needed any more."""
        slot.clear_footer()
        self._free.append(slot)
        while len(self._free) > self._max_free or sum(slot.size_bytes for slot in self._free) > self._max_free_bytes:
            self._free.pop(0).unlink()

    def close(self) -> None:
        """Gives up what is free."""
        while self._free:
            self._free.pop().unlink()
