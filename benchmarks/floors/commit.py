"""The durable commit of a round at its least: a model's file and a row of SQLite, both on the disk when it is done."""

import os
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

_ROW = "x" * 1500
"""About as long as a trail entry of a few clients."""
_PIECE_BYTES = 4 << 20


def commit_s(size_bytes: int, *, repeats: int = 7) -> float:
    """Median seconds of a commit of `size_bytes`: write a new file, fsync, rename, fsync of its folder, insert."""
    with tempfile.TemporaryDirectory(prefix="fedn-commit-") as folder:
        seconds = commits(size_bytes, Path(folder), repeats=repeats + 1)
    return statistics.median(seconds[1:])


def commits(size_bytes: int, folder: Path, *, repeats: int) -> list[float]:
    """Seconds of each of `repeats` commits in `folder`, the first one included; at most two files are kept."""
    content = memoryview(os.urandom(1 << 20) * -(-size_bytes // (1 << 20)))[:size_bytes]
    seconds = []
    with closing(sqlite3.connect(folder / "state.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE trail (position INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        for number in range(repeats):
            begun = time.perf_counter()
            durable_file(folder / str(number), content)
            db.execute("INSERT INTO trail VALUES (?, ?)", (number, _ROW))
            seconds.append(time.perf_counter() - begun)
            if number:
                (folder / str(number - 1)).unlink()
    return seconds


def durable_file(path: Path, content: memoryview) -> None:
    """Writes a file that is there, whole and by its name, also after the power failed."""
    temporary = path.with_suffix(".part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        rest = content
        while rest:
            rest = rest[os.write(descriptor, rest[:_PIECE_BYTES]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
