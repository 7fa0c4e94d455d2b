"""A model store in a folder: one file an object, written beside its place, synced, then renamed into it.

    objects/<algorithm>/<first two hex digits>/<hex digits>    complete objects, never changed
    incoming/<random>                                          being written; left over only by a crash

A name under `objects` therefore always means a complete object. Several processes may share the folder.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedn.protocol.errors import IntegrityError, NotFound
from fedn.protocol.names import ALGORITHMS, check_digest, is_digest
from fedn.stores.base import StoredObject
from fedn.stores.content import FULL_ERRNOS, PIECE_BYTES, check_offset, no_such_object, store_away, store_full, verified


class FileModelStore:
    """Objects as files below `folder`, which is made where it is missing. Methods may be called from any thread.

    Raises:
        StoreUnavailable: the folder cannot be made or read.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._objects = self._folder / "objects"
        self._incoming = self._folder / "incoming"
        with self._errors():
            for algorithm in ALGORITHMS:
                (self._objects / algorithm).mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            for made in (self._objects, self._folder, self._folder.absolute().parent):
                _sync_folder(made)
            self._remove_leftovers()

    def put(self, object_id: str, chunks: Iterable[bytes | bytearray | memoryview], size_bytes: int) -> None:
        target = self._path(object_id)
        with self._errors():
            if target.exists():
                # Another writer may have renamed it a moment ago and not have synced the folder yet.
                self._sync_name(target)
                return
            descriptor, temporary = self._open_temporary()
        try:
            # Errors of the chunks' source are the caller's own: only the store's calls are translated.
            for chunk in verified(object_id, chunks, size_bytes):
                with self._errors():
                    _write(descriptor, chunk)
            with self._errors():
                os.fsync(descriptor)
                target.parent.mkdir(exist_ok=True)
                temporary.rename(target)
                self._sync_name(target)
        except BaseException:
            with contextlib.suppress(OSError):  # a leftover goes at the next start
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)

    def read(self, object_id: str, offset: int = 0) -> Iterator[bytes]:
        check_offset(offset)
        path = self._path(object_id)
        with self._errors():
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                raise no_such_object(object_id) from None
        with file:
            with self._errors():
                size = os.fstat(file.fileno()).st_size
                file.seek(offset)
            position = offset
            while position < size:
                with self._errors():
                    piece = file.read(min(PIECE_BYTES, size - position))
                if not piece:
                    raise IntegrityError(
                        "object_truncated",
                        f"an object's file ends at byte {position} of {size}",
                        fix="Something outside fedn changed the file: restore it from a backup.",
                        where={"object": object_id, "file": path},
                    )
                position += len(piece)
                yield piece

    def stat(self, object_id: str) -> StoredObject:
        with self._errors():
            try:
                found = self._path(object_id).stat()
            except FileNotFoundError:
                raise no_such_object(object_id) from None
        return StoredObject(object_id, found.st_size, found.st_mtime)

    def delete(self, object_id: str) -> None:
        path = self._path(object_id)
        with self._errors(), contextlib.suppress(FileNotFoundError):
            path.unlink()
            _sync_folder(path.parent)

    def objects(self) -> Iterator[StoredObject]:
        for algorithm in ALGORITHMS:
            with self._errors():
                shards = sorted(path for path in (self._objects / algorithm).iterdir() if path.is_dir())
            for shard in shards:
                with self._errors():
                    names = os.listdir(shard)
                for name in names:
                    object_id = f"{algorithm}:{name}"
                    if is_digest(object_id):
                        with contextlib.suppress(NotFound):  # deleted meanwhile
                            yield self.stat(object_id)

    def close(self) -> None:
        """Nothing is kept open."""

    def _path(self, object_id: str) -> Path:
        algorithm, digits = check_digest(object_id)
        return self._objects / algorithm / digits[:2] / digits

    def _open_temporary(self) -> tuple[int, Path]:
        """A new file in `incoming`, locked, so that another process's start-up does not take it for a leftover."""
        while True:
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                still_there = os.fstat(descriptor).st_nlink > 0
            except BaseException:
                os.close(descriptor)
                raise
            if still_there:
                return descriptor, Path(name)
            os.close(descriptor)  # removed between its making and its locking

    def _remove_leftovers(self) -> None:
        for path in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def _sync_name(self, target: Path) -> None:
        _sync_folder(target.parent)
        _sync_folder(target.parent.parent)  # the shard itself may be new

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            made = store_full if error.errno in FULL_ERRNOS else store_away
            raise made(str(self._folder), error) from error


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
