"""Files that are written through a shared mapping and used again under other names, so that their pages stay warm.

A fresh file costs an inode, its blocks and a page fault for every 4 KiB; a file that was there before costs a rename.
Its name says what it holds, as everywhere: a killed process leaves no file whose content is not what its name says.
Room on the disk is taken before a page is written: a write to a mapping finds no room only by a deadly signal.

A slot is longer than what it holds; a footer at its end says how long that is. Not here: which names there are.
"""

import errno
import mmap
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

_FOOTER = struct.Struct("<QQ8s")
FOOTER_BYTES = _FOOTER.size
_SMALLEST_BYTES = 1 << 16
_ROUND_BYTES = 1 << 12
_TOO_LARGE = 8
"""A slot so many times larger than what it would hold is not used for it, if it is larger than the next figure."""
_NEVER_TOO_LARGE_BYTES = 1 << 24


class Slot:
    """One file. It is opened and mapped when that is needed, and then stays so until `release`.

    Args:
        path: of a file that exists; `create` makes one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapping: mmap.mmap | None = None
        self._inode = 0

    @classmethod
    def create(cls, path: Path, size_bytes: int) -> "Slot":
        """A new file. OSError (ENOSPC) where there is no room; nothing is left behind then."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        slot = cls(path)
        try:
            slot.reserve(max(size_bytes, _SMALLEST_BYTES))
        except OSError:
            slot.unlink()
            raise
        return slot

    @property
    def inode(self) -> int:
        """Tells the file, whatever its name is."""
        if not self._inode:
            self._inode = os.stat(self.path).st_ino
        return self._inode

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
        """Makes the file so long at least, with room on the disk. OSError (ENOSPC …): it stays as it was."""
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
        self.refresh()

    def refresh(self) -> None:
        """Notices that the file's length has changed, by whomever."""
        if self._mapping is not None and len(self._mapping) != os.stat(self.path).st_size:
            self.release()

    def store(self, data: bytes | bytearray | memoryview) -> None:
        """Writes its content. OSError as `reserve`."""
        self.reserve(len(data) + FOOTER_BYTES)
        self.mapping[: len(data)] = data

    def write_footer(self, kind: bytes, first: int, second: int) -> None:
        """Two numbers at the file's end; `kind`: 8 bytes that say what they are."""
        mapping = self.mapping
        _FOOTER.pack_into(mapping, len(mapping) - FOOTER_BYTES, first, second, kind)

    def rename(self, path: Path) -> None:
        """Another name, which replaces a file that has it."""
        os.rename(self.path, path)
        self.path = path

    def unlink(self) -> None:
        """The file is not needed any more."""
        self.release()
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Lets the mapping go, which closes it, if need be after the last view. It is made again when needed."""
        self._mapping = None


def read_footer(path: Path, kind: bytes) -> tuple[int, int, int] | None:
    """(first, second, bytes before the footer) of a file; None where it has no footer of that kind. OSError."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END) - FOOTER_BYTES
        if end < 0:
            return None
        file.seek(end)
        first, second, found = _FOOTER.unpack(file.read(FOOTER_BYTES))
    return (first, second, end) if found == kind else None


class FreeSlots:
    """Slots that hold nothing, to be used again.

    Args:
        next_path: gives an unused name for each slot that is free or in work.
        max_slots, max_bytes: > 0; what lies unused beyond that is given up.
    """

    def __init__(self, next_path: Callable[[], Path], *, max_slots: int = 2, max_bytes: int = 2 << 30) -> None:
        self._next_path = next_path
        self._max_slots = max_slots
        self._max_bytes = max_bytes
        self._free: list[Slot] = []

    def take(self, size_bytes: int) -> Slot:
        """A slot for so many bytes, its footer included. OSError (ENOSPC) where there is no room."""
        fitting = [slot for slot in self._free if slot.fits(size_bytes)]
        if not fitting:
            return Slot.create(self._next_path(), size_bytes)
        # The smallest that needs not grow, or else the largest.
        slot = min(fitting, key=lambda slot: (slot.size_bytes < size_bytes, abs(slot.size_bytes - size_bytes)))
        self._free.remove(slot)
        if slot.size_bytes < size_bytes:
            try:
                slot.reserve(size_bytes)
            except OSError:
                slot.unlink()
                raise
        return slot

    def give_back(self, slot: Slot) -> None:
        """What the slot holds is not needed any more."""
        slot.rename(self._next_path())
        self._free.append(slot)
        while len(self._free) > self._max_slots or sum(slot.size_bytes for slot in self._free) > self._max_bytes:
            self._free.pop(0).unlink()

    def close(self) -> None:
        """Gives all up."""
        while self._free:
            self._free.pop().unlink()
