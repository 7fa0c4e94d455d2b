"""A model store in this process's memory: for tests and throw-away runs. Nothing outlives the process."""

import threading
import time
from collections.abc import Iterable, Iterator

from fedn.protocol.names import check_digest
from fedn.stores.base import StoredObject
from fedn.stores.content import PIECE_BYTES, check_offset, no_such_object, verified


class MemoryModelStore:
    """Objects in a dictionary. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, float]] = {}

    def put(self, object_id: str, chunks: Iterable[bytes | bytearray | memoryview], size_bytes: int) -> None:
        check_digest(object_id)
        with self._lock:
            if object_id in self._objects:
                return
        data = b"".join(verified(object_id, chunks, size_bytes))
        with self._lock:
            self._objects.setdefault(object_id, (data, time.time()))

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
