"""Models and packages that the client holds: received in pieces, verified, kept by digest, bounded.

Small objects stay in memory, larger ones in files; what was received in part survives a broken stream, and a restart
too if it is a file. Not here: who asks for what (`fedn.client.downloads`).
"""

import errno
import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fedn.client.worker_channel import INLINE_BYTES
from fedn.models.digest import Hasher, algorithm_of
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, LimitExceeded

_LOG = logging.getLogger(__name__)
_READ_BYTES = 1 << 20

Held = bytes | Path
"""An object: its bytes, or the file that holds them."""


@dataclass
class Incoming:
    """An object on its way. `received` bytes of it are here; `sink` is None while no stream brings more."""

    object_id: str
    kind: common.ObjectKind
    size_bytes: int
    hasher: Hasher
    received: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    path: Path | None = None
    file: IO[bytes] | None = None

    def write(self, data: memoryview) -> None:
        self.hasher.update(data)
        if self.file is None:
            self.buffer += data
        else:
            self.file.write(data)
        self.received += len(data)

    def pause(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


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
        self._files: OrderedDict[str, tuple[Path, int]] = OrderedDict()
        self._unverified: set[str] = set()
        self._partial: dict[str, Incoming] = {}
        self._used: dict[str, int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        path, _ = self._files[object_id]
        if object_id in self._unverified and not self._verify(object_id, path):
            return None
        self._files.move_to_end(object_id)
        return path

    @contextmanager
    def using(self, object_id: str) -> Iterator[None]:
        """While it lasts, the object is not thrown away."""
        self._used[object_id] = self._used.get(object_id, 0) + 1
        try:
            yield
        finally:
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
        if item.path is not None and item.file is None:
            item.file = open(item.path, "ab")  # noqa: SIM115 (closed by pause or complete)
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
            if item.received < item.size_bytes:
                return False
            item.pause()
        except OSError as error:
            self._forget(item.object_id)
            raise disk_error(error, f"object {item.object_id}", self._folder) from error
        self._complete(item)
        return True

    def adopt(self, object_id: str, path: Path) -> None:
        """Takes over the file of an object that was verified; it must lie on the same file system."""
        self._forget(object_id)
        size_bytes = path.stat().st_size
        os.replace(path, self._path(object_id))
        self._files[object_id] = (self._path(object_id), size_bytes)
        self._evict(object_id)

    def pause(self) -> None:
        """The stream broke: what was received in part waits for the next one."""
        for item in self._partial.values():
            item.pause()

    def close(self) -> None:
        self.pause()

    def _new(self, object_id: str, kind: common.ObjectKind, size_bytes: int) -> Incoming:
        item = Incoming(object_id, kind, size_bytes, Hasher(algorithm_of(object_id)))
        if size_bytes > INLINE_BYTES:
            free = shutil.disk_usage(self._folder).free
            if size_bytes > free:
                raise _disk_full(f"object {object_id} of {size_bytes} bytes", self._folder, free)
            item.path = self._path(object_id).with_suffix(f".{_kind_name(kind)}.part")
            item.file = open(item.path, "wb")  # noqa: SIM115 (closed by pause or complete)
        self._partial[object_id] = item
        return item

    def _complete(self, item: Incoming) -> None:
        if item.hasher.digest() != item.object_id:
            self._forget(item.object_id)
            raise IntegrityError(
                "digest_mismatch",
                f"the bytes received as {item.object_id} have the digest {item.hasher.digest()}",
                fix="It is fetched again; if it stays so, something between client and combiner changes bytes.",
            )
        del self._partial[item.object_id]
        if item.path is None:
            self._memory[item.object_id] = bytes(item.buffer)
        else:
            path = self._path(item.object_id)
            os.replace(item.path, path)
            self._files[item.object_id] = (path, item.size_bytes)
        self._evict(item.object_id)

    def _evict(self, newest: str = "") -> None:
        def oldest(items: list[str]) -> str | None:
            return next((name for name in items if name not in self._used and name != newest), None)

        while sum(map(len, self._memory.values())) > self._max_memory_bytes:
            name = oldest(list(self._memory))
            if name is None:
                break
            del self._memory[name]
        while sum(size for _, size in self._files.values()) > self._max_file_bytes:
            name = oldest(list(self._files))
            if name is None:
                break
            self._files.pop(name)[0].unlink(missing_ok=True)

    def _forget(self, object_id: str) -> None:
        item = self._partial.pop(object_id, None)
        if item is not None:
            item.pause()
            if item.path is not None:
                item.path.unlink(missing_ok=True)

    def _path(self, object_id: str) -> Path:
        algorithm, _, digits = object_id.partition(":")
        return self._folder / f"{algorithm}-{digits}"

    def _find_files(self) -> None:
        """Takes over what an earlier process of this client left."""
        for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime):
            object_id = path.name.split(".")[0].replace("-", ":", 1)
            try:
                hasher = Hasher(algorithm_of(object_id))
            except FednError:
                _LOG.warning("%s does not belong into the object cache: left alone", path.name)
                continue
            if path.suffix != ".part":
                self._files[object_id] = (path, path.stat().st_size)
                self._unverified.add(object_id)
                continue
            _hash_file(path, hasher)
            kind = common.OBJECT_KIND_PACKAGE if path.suffixes[0] == ".package" else common.OBJECT_KIND_MODEL
            self._partial[object_id] = Incoming(object_id, kind, 0, hasher, path.stat().st_size, path=path)
        self._evict()

    def _verify(self, object_id: str, path: Path) -> bool:
        """Whether a file of an earlier process is whole: a power cut may have left it empty."""
        hasher = Hasher(algorithm_of(object_id))
        _hash_file(path, hasher)
        if hasher.digest() == object_id:
            self._unverified.discard(object_id)
            return True
        _LOG.warning("object %s on disk is damaged: it is fetched again", object_id)
        self._files.pop(object_id)
        self._unverified.discard(object_id)
        path.unlink()
        return False


def _kind_name(kind: common.ObjectKind) -> str:
    return "package" if kind == common.OBJECT_KIND_PACKAGE else "model"


def _hash_file(path: Path, hasher: Hasher) -> None:
    with open(path, "rb") as file:
        while data := file.read(_READ_BYTES):
            hasher.update(data)


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
