"""Memory and spool files."""

import asyncio
import os
from pathlib import Path

from fedn.combiner.buffers import MemoryStorage, Spool


def test_memory_gives_its_credit_back_once() -> None:
    credits: list[int] = []
    storage = MemoryStorage(64, credits.append)
    storage.write(0, memoryview(b"a" * 60))
    storage.write(60, memoryview(b"bcde"))
    assert storage.pieces().copy() == b"a" * 60 + b"bcde"
    storage.release()
    storage.release()
    assert credits == [64]


def test_large_pieces_stay_where_they_came_and_small_ones_are_put_together() -> None:
    storage = MemoryStorage(1 << 20, lambda size: None)
    large, offset = bytes(range(256)) * 256, 0
    for piece in (large, b"ab", b"cd", b"ef", large):
        storage.write(offset, memoryview(piece))
        offset += len(piece)
    views = list(storage.pieces().views())
    assert [len(view) for view in views] == [len(large), 6, len(large)]
    assert views[0].obj is large and storage.pieces().copy() == large + b"abcdef" + large


def test_a_new_beginning_forgets_what_came() -> None:
    storage = MemoryStorage(100, lambda size: None)
    storage.write(0, memoryview(b"old"))
    storage.write(0, memoryview(b"new"))
    assert storage.pieces().copy() == b"new"


def test_a_spool_file_is_read_while_it_is_written_and_has_no_name(tmp_path: Path) -> None:
    async def run() -> None:
        spool = Spool(tmp_path)
        storage = await spool.create(8)
        pieces = storage.pieces()
        await storage.write(4, memoryview(b"efgh"))
        await storage.write(0, memoryview(b"abcd"))
        assert pieces.copy() == b"abcdefgh"
        assert os.listdir(tmp_path) == []
        storage.release()
        storage.release()
        spool.close()
        assert pieces.copy() == b"abcdefgh"  # a view outlives the file's release

    asyncio.run(run())
