"""Pooled memory and spool files."""

import asyncio
import os
from pathlib import Path

from fedn.combiner.buffers import BufferPool, MemoryStorage, Spool


def test_a_buffer_that_came_back_is_used_again() -> None:
    pool = BufferPool(1000)
    first = pool.take(100)
    pool.give(first)
    assert pool.take(90) is first
    assert pool.take(90) is not first


def test_a_buffer_much_too_large_is_not_wasted_on_a_small_update() -> None:
    pool = BufferPool(1 << 20)
    large = pool.take(100_000)
    pool.give(large)
    assert pool.take(10) is not large


def test_the_pool_keeps_no_more_than_it_may() -> None:
    pool = BufferPool(150)
    buffers = [pool.take(100) for _ in range(3)]
    for buffer in buffers:
        pool.give(buffer)
    assert pool.take(100) is buffers[2]
    assert id(pool.take(100)) not in {id(buffer) for buffer in buffers}


def test_memory_gives_its_credit_back_once() -> None:
    credits: list[int] = []
    storage = MemoryStorage(BufferPool(1000), 64, credits.append)
    storage.write(0, memoryview(b"a" * 60))
    storage.write(60, memoryview(b"bcde"))
    assert bytes(storage.view()) == b"a" * 60 + b"bcde"
    storage.release()
    storage.release()
    assert credits == [64]


def test_a_spool_file_is_read_while_it_is_written_and_has_no_name(tmp_path: Path) -> None:
    async def run() -> None:
        spool = Spool(tmp_path)
        storage = await spool.create(8)
        view = storage.view()
        await storage.write(4, memoryview(b"efgh"))
        await storage.write(0, memoryview(b"abcd"))
        assert bytes(view) == b"abcdefgh"
        assert os.listdir(tmp_path) == []
        storage.release()
        storage.release()
        spool.close()
        assert bytes(view) == b"abcdefgh"  # a view outlives the file's release

    asyncio.run(run())
