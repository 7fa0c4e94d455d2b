"""Updates are folded in the order of tasks, whatever the order in which they arrive or fail."""

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedn.combiner.buffers import MemoryStorage, Spool, SpoolStorage
from fedn.combiner.ordering import InOrder
from fedn.combiner.totals import Arrived
from fedn.models.wire import encode, read_spec
from fedn.protocol.errors import FednError
from fedn.protocol.tasks import RoundName, UpdateMetadata
from tests.unit.combiner.waiting import Changes

DATA = bytes(encode({"w": np.ones(3, np.float32)}))
TASKS = ["a", "b", "c", "d", "e"]


def arrived(task_id: str, credits: list[int]) -> Arrived:
    storage = MemoryStorage(len(DATA), credits.append)
    storage.write(0, memoryview(DATA))
    name = RoundName(session="s", index=0, attempt=0, epoch=0)
    metadata = UpdateMetadata(task_id=task_id, client=task_id, round=name, num_examples=1)
    return Arrived(task_id, task_id, "blake3:", len(DATA), metadata, read_spec(DATA), storage)


class Credits(list[int]):
    """Sizes that came back."""

    def __init__(self, changes: Changes) -> None:
        super().__init__()
        self._changes = changes

    def append(self, size_bytes: int) -> None:
        super().append(size_bytes)
        self._changes.note()


@given(st.permutations(TASKS), st.sets(st.sampled_from(TASKS)))
def test_any_order_of_arrivals_and_failures_gives_one_order(order: list[str], failing: set[str]) -> None:
    handed: list[str] = []
    credits: list[int] = []
    changes: Changes

    def hand_on(update: Arrived) -> None:
        assert update.storage.pieces().copy() == DATA
        handed.append(update.task_id)
        update.storage.release()
        changes.note()

    def lost(update: Arrived, error: FednError) -> None:
        raise AssertionError(error)

    async def run() -> None:
        nonlocal changes
        changes = Changes()
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(Path(folder))
            ordering = InOrder(TASKS, spool, hand_on, lost)
            for task_id in order:
                if task_id in failing:
                    ordering.skip(task_id)
                else:
                    ordering.put(arrived(task_id, credits))
            await changes.until(lambda: len(handed) == len(TASKS) - len(failing))
            await ordering.close()
            spool.close()

    asyncio.run(run())
    assert handed == [task_id for task_id in TASKS if task_id not in failing]
    assert sum(credits) == len(handed) * len(DATA)


def test_what_is_out_of_turn_waits_in_a_file_and_gives_its_memory_back(tmp_path: Path) -> None:
    async def run() -> None:
        changes = Changes()
        credits = Credits(changes)
        handed: list[Arrived] = []
        spool = Spool(tmp_path)
        ordering = InOrder(["a", "b"], spool, handed.append, lambda update, error: None)
        ordering.put(arrived("b", credits))
        await changes.until(lambda: credits)
        assert handed == []
        ordering.put(arrived("a", credits))
        assert [update.task_id for update in handed] == ["a", "b"]
        assert isinstance(handed[1].storage, SpoolStorage)
        for update in handed:
            update.storage.release()
        await ordering.close()
        spool.close()

    asyncio.run(run())
