"""A process that writes to a store until it is killed: `python -m tests.support.store_writer KIND PLACE [DATABASE]`.

It prints a line for each write that has returned; what it has printed must be there afterwards.
    sqlite FILE, mongodb URL DATABASE    appends trail entries 0, 1, 2, … and prints each one's index
    files FOLDER                         stores 4 MiB objects, then half of one, and waits; prints each one's digest
    full FOLDER                          stores 4 MiB where no file may grow beyond 1 MiB; prints the error's code
"""

import itertools
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from fedn.models.digest import digest
from fedn.protocol.errors import StoreUnavailable
from fedn.stores.base import StateStore
from fedn.stores.files import FileModelStore
from fedn.stores.mongo import MongoStateStore
from fedn.stores.sqlite import SqliteStateStore
from tests.support.trails import make_entry

OBJECT_BYTES = 4 << 20


def make_object(index: int) -> bytes:
    return bytes([index % 256]) * OBJECT_BYTES


def _append_entries(store: StateStore) -> None:
    for index in itertools.count():
        store.append_entry(make_entry(index))
        print(index, flush=True)


def _store_objects(folder: Path) -> None:
    store = FileModelStore(folder)
    for index in range(3):
        data = make_object(index)
        store.put(digest(data), [data], len(data))
        print(digest(data), flush=True)
    store.put(digest(make_object(3)), _half(make_object(3)), OBJECT_BYTES)


def _half(data: bytes) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    print(digest(data), flush=True)
    signal.pause()


def _store_on_a_full_disk(folder: Path) -> None:
    store = FileModelStore(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        store.put(digest(make_object(0)), [make_object(0)], OBJECT_BYTES)
    except StoreUnavailable as error:
        print(error.code, flush=True)


def main(kind: str, place: str, *rest: str) -> None:
    match kind:
        case "sqlite":
            _append_entries(SqliteStateStore(place))
        case "mongodb":
            _append_entries(MongoStateStore(place, *rest))
        case "files":
            _store_objects(Path(place))
        case "full":
            _store_on_a_full_disk(Path(place))


if __name__ == "__main__":
    main(*sys.argv[1:])
