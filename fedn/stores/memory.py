"""A model store in this process's memory: for tests and throw-away runs. Nothing outlives the process."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Self

from fedn.protocol.names import check_digest
from fedn.stores.base import StoredObject
from fedn.stores.content import PIECE_BYTES, Buffer, Checked, check_offset, no_such_object, put_through


class MemoryModelStore:
    """Objects in a dictionary. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, float]] = {}

    def writer(self, algorithm: str, size_bytes: int) -> "_Writer":
        return _Writer(self, algorithm, size_bytes)

    def put(self, object_id: str, chunks: Iterable[Buffer], size_bytes: int) -> None:
        check_digest(object_id)
        with self._lock:
            if object_id in self._objects:
                return
        put_through(self, object_id, chunks, size_bytes)

    def read(self, object_id: str, offset: int = 0) -> Iterator[bytes]:
        check_offset(offset)
        data, _ = self._get(object_id)
        for start in range(offset, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]

    def stat(self, object_id: str) -> StoredObject:
        data, stored_at = self._get(object_id)
        return StoredObject(object_id, len(data), stored_at)

    def delete(self, object_id: str) -> None:
        check_digest(object_id)
        with self._lock:
            self._objects.pop(object_id, None)

    def objects(self) -> Iterator[StoredObject]:
        with self._lock:
            found = [StoredObject(name, len(data), stored_at) for name, (data, stored_at) in self._objects.items()]
        yield from found

    def close(self) -> None:
        with self._lock:
            self._objects.clear()

    def _get(self, object_id: str) -> tuple[bytes, float]:
        check_digest(object_id)
        with self._lock:
            found = self._objects.get(object_id)
        if found is None:
            raise no_such_object(object_id)
        return found

    def _add(self, object_id: str, data: bytes) -> None:
        with self._lock:
            self._objects.setdefault(object_id, (data, time.time()))


class _Writer:
    """Keeps what is written until it is whole."""

    def __init__(self, store: MemoryModelStore, algorithm: str, size_bytes: int) -> None:
        self._store = store
        self._checked = Checked(algorithm, size_bytes)
        self._chunks: list[bytes] = []

    def write(self, data: Buffer) -> None:
        view = self._checked.fitting(data)
        self._chunks.append(bytes(view))
        self._checked.add(view)

    def digest(self) -> str:
        return self._checked.digest()

    def keep(self, object_id: str) -> None:
        self._checked.check(object_id)
        self._store._add(object_id, b"".join(self._chunks))

    def close(self) -> None:
        self._chunks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
