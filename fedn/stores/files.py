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
from typing import Self

from fedn.protocol.errors import IntegrityError, NotFound
from fedn.protocol.names import ALGORITHMS, check_digest, is_digest
from fedn.stores.base import StoredObject
from fedn.stores.content import (
    FULL_ERRNOS,
    PIECE_BYTES,
    Buffer,
    Checked,
    check_offset,
    no_such_object,
    put_through,
    store_away,
    store_full,
)


class FileModelStore:
    """Objects as files below `folder`, which is made where it is missing. Methods may be called from any thread.

    Raises:
        StoreUnavailable: the folder cannot be made or read.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._objects = self._folder / "objects"
        self._incoming = self._folder / "incoming"
        self._durable_shards: set[Path] = set()
        """Those whose own names have been synced."""
        with self._errors():
            for algorithm in ALGORITHMS:
                (self._objects / algorithm).mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            for made in (self._objects, self._folder, self._folder.absolute().parent):
                _sync_folder(made)
            self._remove_leftovers()

    def writer(self, algorithm: str, size_bytes: int) -> "_Writer":
        with self._errors():
            descriptor, path = self._open_temporary()
        return _Writer(self, descriptor, path, Checked(algorithm, size_bytes))

    def put(self, object_id: str, chunks: Iterable[Buffer], size_bytes: int) -> None:
        if not self._is_there(object_id):
            put_through(self, object_id, chunks, size_bytes)

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

    def _is_there(self, object_id: str) -> bool:
        """Whether there is such an object; then its name is durable."""
        target = self._path(object_id)
        with self._errors():
            found = target.exists()
            if found:
                # Another writer may have renamed it a moment ago and not have synced the folder yet.
                self._sync_name(target)
        return found

    def _move_in(self, temporary: Path, object_id: str) -> None:
        """Gives a file that is synced its name, durably."""
        target = self._path(object_id)
        with self._errors():
            if target.parent not in self._durable_shards:
                target.parent.mkdir(exist_ok=True)
            try:
                temporary.rename(target)
            except FileNotFoundError:  # somebody removed the shard
                self._durable_shards.discard(target.parent)
                target.parent.mkdir(exist_ok=True)
                temporary.rename(target)
            self._sync_name(target)

    def _sync_name(self, target: Path) -> None:
        shard = target.parent
        _sync_folder(shard)
        if shard not in self._durable_shards:
            _sync_folder(shard.parent)
            self._durable_shards.add(shard)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            made = store_full if error.errno in FULL_ERRNOS else store_away
            raise made(str(self._folder), error) from error


class _Writer:
    """A file in `incoming`."""

    def __init__(self, store: FileModelStore, descriptor: int, path: Path, checked: Checked) -> None:
        self._store = store
        self._descriptor = descriptor
        self._path = path
        self._checked = checked
        self._open = True
        self._kept = False
        self._doubtful = False
        """A sync failed: what was not written then may be lost, and the next sync would not say so."""

    def write(self, data: Buffer) -> None:
        view, done = self._checked.fitting(data), 0
        with self._store._errors():
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self._checked.received + done)
        self._checked.add(view)

    def digest(self) -> str:
        return self._checked.digest()

    def keep(self, object_id: str) -> None:
        self._checked.check(object_id)
        with self._store._errors():
            if self._doubtful:
                self._write_again(object_id)
            self._doubtful = True
            os.fsync(self._descriptor)
            self._doubtful = False
            # The next object takes these pages again. Pages that were never used cost several times what a copy does,
            # and objects are rarely read soon after they were written.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if not self._store._is_there(object_id):
            self._store._move_in(self._path, object_id)
            self._kept = True

    def _write_again(self, object_id: str) -> None:
        """Into a new file, as far as the old one still has the bytes."""
        checked = Checked(check_digest(object_id)[0], os.fstat(self._descriptor).st_size)
        descriptor, path = self._store._open_temporary()
        again = _Writer(self._store, descriptor, path, checked)
        try:
            with self._path.open("rb") as old:
                while piece := old.read(PIECE_BYTES):
                    again.write(piece)
            checked.check(object_id)
        except BaseException:
            again.close()
            raise
        self._descriptor, again._descriptor = again._descriptor, self._descriptor
        self._path, again._path = again._path, self._path
        again.close()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if not self._kept:
            with contextlib.suppress(OSError):  # a leftover goes at the next start
                self._path.unlink()
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
