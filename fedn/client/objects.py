"""Models and packages that the client holds: received in pieces, verified, kept by digest, bounded.

Small objects stay in memory, larger ones in files; what was received in part survives a broken stream, and a restart
too if it is a file. Such a file is a slot (`fedn.client.slots`) whose footer says which object it holds, its size and
how much of it is here; a model's slot is used again for the model after the next. A whole package is a file of its own,
named by its digest. Not here: who asks for what (`fedn.client.downloads`).
"""

import errno
import logging
import os
import shutil
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from fedn.client.slots import FOOTER_BYTES, NAME, HeldFile, Slot, SlotFolder, read_footer
from fedn.client.worker_channel import INLINE_BYTES
from fedn.models.digest import Hasher, algorithm_of
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, LimitExceeded

_LOG = logging.getLogger(__name__)
_READ_BYTES = 1 << 20
_FOOTERS = {common.OBJECT_KIND_MODEL: b"fednmod1", common.OBJECT_KIND_PACKAGE: b"fednpkg1"}
_KEPT_MODELS = 2
"""Models in files: the newest, and the one before it, whose slot the next one takes."""


Held = bytes | HeldFile
"""An object: its bytes, or the file that holds them. Nobody writes to that file."""


@dataclass
class Incoming:
    """An object on its way. `received` bytes of it are here, in `buffer` or, where there is one, in `slot`."""

    object_id: str
    kind: common.ObjectKind
    size_bytes: int
    hasher: Hasher
    received: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    slot: Slot | None = None

    def write(self, data: memoryview) -> None:
        if self.slot is None:
            self.buffer += data
        else:
            self.slot.mapping[self.received : self.received + len(data)] = data
        self.hasher.update(data)
        self.received += len(data)
        self.note()

    def note(self) -> None:
        """Into the footer, for the process after a kill."""
        if self.slot is not None:
            self.slot.write_footer(_FOOTERS[self.kind], self.size_bytes, self.received, self.object_id)


@dataclass
class _File:
    """A whole object in a file."""

    path: Path
    size_bytes: int
    slot: Slot | None = None
    """Where it is a model."""

    def unlink(self) -> None:
        if self.slot is not None:
            self.slot.unlink()
        else:
            self.path.unlink(missing_ok=True)


class ObjectCache:
    """Objects by digest.

    Args:
        folder: where files go; made if missing, owned by one process.
        max_file_bytes, max_memory_bytes: > 0; the objects used least recently go first, one in use never does.
    """

    def __init__(self, folder: Path, *, max_file_bytes: int = 4 << 30, max_memory_bytes: int = 16 << 20) -> None:
        self._folder = folder
        self._max_file_bytes = max_file_bytes
        self._max_memory_bytes = max_memory_bytes
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._unverified: set[str] = set()
        self._partial: dict[str, Incoming] = {}
        self._used: dict[str, int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._slots = SlotFolder(folder)
        self._find_files()

    def held(self) -> list[str]:
        """Digests of the objects that are here whole."""
        return [*self._memory, *self._files]

    def partial(self) -> list[Incoming]:
        """Objects that are here in part."""
        return [item for item in self._partial.values() if item.received]

    def received(self, object_id: str) -> int:
        """How many bytes of an object that is not here whole are."""
        item = self._partial.get(object_id)
        return item.received if item else 0

    def get(self, object_id: str) -> Held | None:
        """The object, if it is here whole."""
        if object_id in self._memory:
            self._memory.move_to_end(object_id)
            return self._memory[object_id]
        if object_id not in self._files:
            return None
        file = self._files[object_id]
        if object_id in self._unverified and not self._verify(object_id, file):
            return None
        self._files.move_to_end(object_id)
        return HeldFile(file.path, file.size_bytes, file.slot)

    def pin(self, object_id: str) -> None:
        """Until as many calls of `unpin`, the object is not thrown away once it is here."""
        self._used[object_id] = self._used.get(object_id, 0) + 1

    def unpin(self, object_id: str) -> None:
        self._used[object_id] -= 1
        if not self._used[object_id]:
            del self._used[object_id]
            self._evict()

    def begin(self, object_id: str, kind: common.ObjectKind, size_bytes: int, offset: int) -> Incoming | None:
        """An object begins to arrive at `offset`; None if it is here already.

        Raises:
            InvalidInput: `bad_frame`, the offset is not where we are.
            LimitExceeded: `disk_full`.
        """
        if object_id in self._memory or object_id in self._files:
            return None
        item = self._partial.get(object_id)
        if item is None or item.size_bytes not in {0, size_bytes} or offset == 0:
            self._forget(object_id)
            item = self._new(object_id, kind, size_bytes)
        if item.received != offset:
            raise InvalidInput(
                "bad_frame", f"object {object_id} goes on at {offset}, but {item.received} bytes of it are here"
            )
        item.size_bytes = size_bytes
        return item

    def take(self, item: Incoming, data: memoryview) -> bool:
        """Takes the next piece; True if the object is whole now.

        Raises:
            InvalidInput: `bad_frame`, more bytes than there are in the object.
            IntegrityError: `digest_mismatch`; what was received is thrown away.
            LimitExceeded: `disk_full`.
        """
        if item.received + len(data) > item.size_bytes:
            raise InvalidInput(
                "bad_frame", f"object {item.object_id} has more bytes than the {item.size_bytes} it said"
            )
        try:
            item.write(data)
        except OSError as error:
            self._forget(item.object_id)
            raise disk_error(error, f"object {item.object_id}", self._folder) from error
        if item.received < item.size_bytes:
            return False
        self._complete(item)
        return True

    def adopt(self, object_id: str, path: Path) -> None:
        """Takes over the file of an object that was verified; it must lie on the same file system."""
        self._forget(object_id)
        size_bytes = path.stat().st_size
        os.replace(path, self._path(object_id))
        self._files[object_id] = _File(self._path(object_id), size_bytes)
        self._evict(object_id)

    def pause(self) -> None:
        """The stream broke: what was received in part waits for the next one."""
        for item in self._partial.values():
            if item.slot is not None:
                item.slot.release()

    def close(self) -> None:
        self.pause()
        for file in self._files.values():
            if file.slot is not None:
                file.slot.release()

    def _new(self, object_id: str, kind: common.ObjectKind, size_bytes: int) -> Incoming:
        item = Incoming(object_id, kind, size_bytes, Hasher(algorithm_of(object_id)))
        if size_bytes > INLINE_BYTES:
            try:
                item.slot = self._slot(size_bytes + FOOTER_BYTES, kind)
            except OSError as error:
                raise disk_error(error, f"object {object_id} of {size_bytes} bytes", self._folder) from error
            item.note()
        self._partial[object_id] = item
        return item

    def _slot(self, size_bytes: int, kind: common.ObjectKind) -> Slot:
        """A file for an object on its way: for a model, that of the model used least recently. OSError."""
        superseded = self._superseded() if kind == common.OBJECT_KIND_MODEL else []
        slot = superseded.pop() if superseded else None
        for other in superseded:
            other.unlink()
        if slot is not None and not slot.fits(size_bytes):
            slot.unlink()
            slot = None
        if slot is None:
            return self._slots.create(size_bytes)
        try:
            slot.reserve(size_bytes)
        except OSError:
            slot.unlink()
            raise
        return slot

    def _superseded(self) -> list[Slot]:
        """Takes away the models that give way to a new one, the one used least recently first."""
        models = [name for name, file in self._files.items() if file.slot is not None]
        unused = [name for name in models if name not in self._used]
        gone = unused[: max(0, len(models) - _KEPT_MODELS + 1)]
        self._unverified.difference_update(gone)
        return [slot for name in gone if (slot := self._files.pop(name).slot) is not None]

    def _complete(self, item: Incoming) -> None:
        if item.hasher.digest() != item.object_id:
            self._forget(item.object_id)
            raise IntegrityError(
                "digest_mismatch",
                f"the bytes received as {item.object_id} have the digest {item.hasher.digest()}",
                fix="It is fetched again; if it stays so, something between client and combiner changes bytes.",
            )
        del self._partial[item.object_id]
        slot = item.slot
        if slot is None:
            self._memory[item.object_id] = bytes(item.buffer)
        elif item.kind == common.OBJECT_KIND_MODEL:
            self._files[item.object_id] = _File(slot.path, item.size_bytes, slot)
        else:
            slot.release()
            os.truncate(slot.path, item.size_bytes)
            self.adopt(item.object_id, slot.path)
        self._evict(item.object_id)

    def _evict(self, newest: str = "") -> None:
        def oldest(items: list[str]) -> str | None:
            return next((name for name in items if name not in self._used and name != newest), None)

        while sum(map(len, self._memory.values())) > self._max_memory_bytes:
            name = oldest(list(self._memory))
            if name is None:
                break
            del self._memory[name]
        while sum(file.size_bytes for file in self._files.values()) > self._max_file_bytes:
            name = oldest(list(self._files))
            if name is None:
                break
            self._files.pop(name).unlink()
            self._unverified.discard(name)

    def _forget(self, object_id: str) -> None:
        item = self._partial.pop(object_id, None)
        if item is not None and item.slot is not None:
            item.slot.unlink()

    def _path(self, object_id: str) -> Path:
        algorithm, _, digits = object_id.partition(":")
        return self._folder / f"{algorithm}-{digits}"

    def _find_files(self) -> None:
        """Takes over what an earlier process of this client left."""
        for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime):
            if path.name.startswith(NAME):
                self._find_slot(path)
                continue
            object_id = path.name.replace("-", ":", 1)
            if _is_digest(object_id):
                self._files[object_id] = _File(path, path.stat().st_size)
                self._unverified.add(object_id)
            else:
                _LOG.warning("%s does not belong into the object cache: left alone", path.name)
        self._evict()

    def _find_slot(self, path: Path) -> None:
        for kind, footer_kind in _FOOTERS.items():
            footer = read_footer(path, footer_kind)
            if footer is None or not footer.second <= footer.first <= footer.end or not _is_digest(footer.text):
                continue
            size_bytes, received, object_id, _ = footer
            if received == size_bytes and kind == common.OBJECT_KIND_MODEL:
                self._files[object_id] = _File(path, size_bytes, Slot(path))
                self._unverified.add(object_id)
            else:
                hasher = Hasher(algorithm_of(object_id))
                _hash_file(path, hasher, received)
                self._partial[object_id] = Incoming(object_id, kind, size_bytes, hasher, received, slot=Slot(path))
            return
        path.unlink()

    def _verify(self, object_id: str, file: _File) -> bool:
        """Whether a file of an earlier process is whole: a power cut may have left it empty."""
        self._unverified.discard(object_id)
        hasher = Hasher(algorithm_of(object_id))
        _hash_file(file.path, hasher, file.size_bytes)
        if hasher.digest() == object_id:
            return True
        _LOG.warning("object %s on disk is damaged: it is fetched again", object_id)
        self._files.pop(object_id)
        file.unlink()
        return False


def _is_digest(text: str) -> bool:
    try:
        algorithm_of(text)
    except InvalidInput:
        return False
    return True


def _hash_file(path: Path, hasher: Hasher, size_bytes: int) -> None:
    with open(path, "rb") as file:
        while size_bytes and (data := file.read(min(_READ_BYTES, size_bytes))):
            hasher.update(data)
            size_bytes -= len(data)


def disk_error(error: OSError, what: str, folder: Path) -> FednError:
    """What a failed write means."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _disk_full(what, folder, shutil.disk_usage(folder).free)
    return LimitExceeded(
        "write_failed", f"{what} cannot be written: {error.strerror}", fix="Look at the disk.", where={"folder": folder}
    )


def _disk_full(what: str, folder: Path, free: int) -> LimitExceeded:
    return LimitExceeded(
        "disk_full",
        f"there is no room for {what}: {free} bytes are free",
        fix="Make room on the disk of the client's data_dir.",
        where={"folder": folder},
    )
