"""Hashing, and what it takes to make things durable."""

import hashlib
import os
import sqlite3
import statistics
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from blake3 import blake3

from benchmarks.counts import format_count
from benchmarks.floors.commit import commits, durable_file
from benchmarks.floors.timing import best_s, figure, timed
from benchmarks.results import Row

_HASHED_BYTES = 256 << 20
_SIZES = (400_000, 4_000_000, 40_000_000, 400_000_000)
_INSERTS = 50


def hashing() -> list[Row]:
    """GB/s of digests."""
    content = os.urandom(_HASHED_BYTES)
    kinds = {
        "BLAKE3, 1 thread": lambda: blake3(content).digest(),
        "BLAKE3, 2 threads": lambda: blake3(content, max_threads=2).digest(),
        "SHA-256": lambda: hashlib.sha256(content).digest(),
    }
    return [figure("hash", what, len(content) / best_s(call, 3) / 1e9, "GB/s") for what, call in kinds.items()]


def durable() -> list[Row]:
    """Milliseconds of durable writes: files of models, rows, and a commit of both."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="fedn-disk-") as name:
        folder = Path(name)
        rows.append(figure("disk", "SQLite insert, synchronous=FULL", insert_s(folder) * 1e3, "ms"))
        for size_bytes in _SIZES:
            content = memoryview(os.urandom(1 << 20) * (size_bytes // (1 << 20) + 1))[:size_bytes]
            seconds = []
            for number in range(4):
                path = folder / str(number)
                seconds.append(timed(partial(durable_file, path, content)))
                path.unlink()
            shown = f"{format_count(size_bytes)}B"
            rows.append(figure("disk", f"durable file of {shown}", statistics.median(seconds[1:]) * 1e3, "ms"))
            with tempfile.TemporaryDirectory(dir=folder) as inner:
                taken = commits(size_bytes, Path(inner), repeats=4)
            rows.append(figure("disk", f"durable commit of {shown}", statistics.median(taken[1:]) * 1e3, "ms"))
    return rows


def insert_s(folder: Path) -> float:
    """Median seconds of a durable row of plain SQLite."""
    with closing(sqlite3.connect(folder / "inserts.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE trail (position INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        seconds = [
            timed(partial(db.execute, "INSERT INTO trail VALUES (?, ?)", (number, "x" * 1500)))
            for number in range(_INSERTS)
        ]
    return statistics.median(seconds)
