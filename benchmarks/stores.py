"""Stores alone: models put and got, documents inserted, against raw files, digests and SQLite in the same run.

The floor of a put is the digest (which every store checks) and a durable file of the size: write, fsync, rename. The
floor of a get is reading such a file. That of an insert is a row of plain SQLite with synchronous=FULL. S3 is rclone on
this machine, MongoDB a mongod with its journal; both start here, and a store whose program is missing is noted.

  python -m benchmarks stores --sizes 4M,40M,400M --stores files,memory,s3,sqlite,mongodb
"""

import argparse
import os
import statistics
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.floors.commit import durable_file
from benchmarks.floors.disk import insert_s
from benchmarks.floors.timing import timed
from benchmarks.options import names_of, parser_of
from benchmarks.results import Row, append, markdown
from fedn.models.digest import digest
from fedn.stores.base import ModelStore, StateStore
from fedn.stores.files import FileModelStore
from fedn.stores.memory import MemoryModelStore
from fedn.stores.mongo import MongoStateStore
from fedn.stores.s3 import S3ModelStore
from fedn.stores.sqlite import SqliteStateStore
from tests.support.servers import mongodb_url, s3_rclone

Store = TypeVar("Store", ModelStore, StateStore)

_REPEATS = 4
_PIECE_BYTES = 1 << 20
_DOCUMENT = {"session": "s", "round": 1, "text": "x" * 1400}
"""About as large as a trail entry of a few clients."""


def model_row(name: str, store: ModelStore, size_bytes: int, floors: dict[str, float]) -> Row:
    """Milliseconds to put and to get an object of this size: the median of several different ones."""
    puts, gets = [], []
    for _ in range(_REPEATS):
        content = _content(size_bytes)
        object_id = digest(content)
        puts.append(timed(partial(store.put, object_id, [content], size_bytes)))
        gets.append(timed(partial(_read_all, store, object_id)))
        store.delete(object_id)
    put_s, get_s = statistics.median(puts[1:]), statistics.median(gets[1:])
    return {
        "bench": "stores",
        "store": name,
        "size_bytes": size_bytes,
        "put_ms": put_s * 1e3,
        "put_mb_s": size_bytes / put_s / 1e6,
        "put_of_floor": put_s / floors["put"],
        "get_ms": get_s * 1e3,
        "get_mb_s": size_bytes / get_s / 1e6,
        "get_of_floor": get_s / floors["get"],
    }


def model_floors(size_bytes: int) -> dict[str, float]:
    """Seconds of what a put and a get take at the least."""
    content = _content(size_bytes)
    with tempfile.TemporaryDirectory(prefix="fedn-stores-") as name:
        writes = []
        for number in range(_REPEATS):
            path = Path(name, str(number))
            writes.append(timed(partial(durable_file, path, memoryview(content))))
        hashes = [timed(lambda: blake3(content).digest()) for _ in range(3)]
        reads = [timed(lambda: _read(path)) for _ in range(3)]
    return {"put": min(writes) + min(hashes), "get": min(reads)}


def state_row(name: str, store: StateStore, count: int, floor_s: float) -> Row:
    """Milliseconds of a durable insert and of a get, one after the other."""
    inserts = [timed(partial(store.insert, "rounds", key, _DOCUMENT)) for key in map(str, range(count))]
    gets = [timed(partial(store.get, "rounds", key)) for key in map(str, range(count))]
    insert = statistics.median(inserts)
    return {
        "bench": "stores",
        "store": name,
        "insert_ms": insert * 1e3,
        "insert_p99_ms": sorted(inserts)[int(0.99 * count)] * 1e3,
        "insert_of_floor": insert / floor_s,
        "find_ms": statistics.median(gets) * 1e3,
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: model stores, then state stores, then what could not be measured."""
    models = ("put_ms", "put_mb_s", "put_of_floor", "get_ms", "get_mb_s", "get_of_floor")
    states = ("insert_ms", "insert_p99_ms", "insert_of_floor", "find_ms")
    parts = [
        markdown(
            ("model store", "size", "put ms", "put MB/s", "× floor", "get ms", "get MB/s", "× floor"),
            [
                [row["store"], f"{format_count(row['size_bytes'])}B", *(row[key] for key in models)]
                for row in rows
                if "put_ms" in row
            ],
        ),
        markdown(
            ("state store", "insert ms", "p99 ms", "× plain SQLite", "get ms"),
            [[row["store"], *(row[key] for key in states)] for row in rows if "insert_ms" in row],
        ),
        *(f"{row['store']}: {row['failed']}" for row in rows if "failed" in row),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    floors = {size: model_floors(size) for size in given.sizes}
    rows = []
    for name in given.stores:
        try:
            found = _measure(name, given, floors)
        except RuntimeError as error:  # the server's program is missing, or did not start
            found = [{"bench": "stores", "store": name, "failed": str(error)}]
        for row in found:
            append(given.out, row)
        rows += found
    print(table(rows))
    return 0


def _measure(name: str, given: argparse.Namespace, floors: dict[int, dict[str, float]]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="fedn-stores-") as folder:
        if name in _STATE_STORES:
            with _STATE_STORES[name](Path(folder)) as state:
                return [state_row(name, state, given.inserts, insert_s(Path(folder)))]
        with _MODEL_STORES[name](Path(folder)) as models:
            return [model_row(name, models, size, floors[size]) for size in given.sizes]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("stores", __doc__)
    known = (*_MODEL_STORES, *_STATE_STORES)
    parser.add_argument("--sizes", type=parse_counts, default=(4_000_000, 40_000_000), help="bytes [default: 4M,40M]")
    parser.add_argument(
        "--stores", type=names_of("store", known), default=known, help=f"of {', '.join(known)} [default: all]"
    )
    parser.add_argument("--inserts", type=parse_count, default=300, help="documents [default: 300]")
    return parser.parse_args(arguments)


@contextmanager
def _closing(store: Store) -> Iterator[Store]:
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _s3(folder: Path) -> Iterator[ModelStore]:
    with s3_rclone(folder) as account:
        store = S3ModelStore(
            account.endpoint,
            bucket="benchmark",
            access_key=account.access_key,
            secret_key=account.secret_key,
            secure=False,
        )
        with _closing(store) as opened:
            yield opened


@contextmanager
def _mongodb(folder: Path) -> Iterator[StateStore]:
    with mongodb_url(folder) as url, _closing(MongoStateStore(url, f"bench_{uuid.uuid4().hex}")) as opened:
        yield opened


_MODEL_STORES = {
    "files": lambda folder: _closing(FileModelStore(folder)),
    "memory": lambda _: _closing(MemoryModelStore()),
    "s3": _s3,
}
_STATE_STORES = {
    "sqlite": lambda folder: _closing(SqliteStateStore(folder / "state.db")),
    "mongodb": _mongodb,
}


def _content(size_bytes: int) -> bytes:
    """Bytes that differ from call to call."""
    return (os.urandom(1 << 20) * (size_bytes // (1 << 20) + 1))[:size_bytes]


def _read_all(store: ModelStore, object_id: str) -> int:
    return sum(map(len, store.read(object_id)))


def _read(path: Path) -> int:
    """Reads a file in the pieces that stores hand out."""
    with path.open("rb", buffering=0) as file:
        return sum(len(piece) for piece in iter(lambda: file.read(_PIECE_BYTES), b""))
