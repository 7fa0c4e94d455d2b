"""Who may upload when: slots by size, memory credit in order of arrival, files where memory does not do."""

import asyncio
from pathlib import Path
from typing import Any

from fedn.combiner.admission import Admission, Ticket
from fedn.combiner.buffers import MemoryStorage, Spool, SpoolStorage, Storage
from fedn.protocol.errors import FednError
from tests.unit.combiner.waiting import Changes

MIB = 1 << 20


class Uploads:
    """Tickets and what was granted, in order."""

    def __init__(self, folder: Path, memory_bytes: int, slow_after_s: float = 600.0) -> None:
        self.changes = Changes()
        self.spool = Spool(folder)
        self.admission = Admission(memory_bytes, self.spool, slow_after_s)
        self.granted: dict[str, Storage] = {}
        self.failed: dict[str, FednError] = {}
        self.tickets: dict[str, Ticket] = {}

    def ask(self, name: str, size_bytes: int, storage: Storage | None = None) -> None:
        ticket = Ticket(
            size_bytes,
            on_grant=lambda given: self._note(self.granted, name, given),
            on_failure=lambda error: self._note(self.failed, name, error),
            storage=storage,
        )
        self.tickets[name] = ticket
        self.admission.request(ticket)

    def leave(self, name: str) -> None:
        self.admission.leave(self.tickets[name])

    def _note(self, log: dict[str, Any], name: str, what: object) -> None:
        log[name] = what
        self.changes.note()

    async def until_granted(self, name: str) -> None:
        await self.changes.until(lambda: name in self.granted)

    async def close(self) -> None:
        await self.admission.close()
        for storage in self.granted.values():
            storage.release()
        self.spool.close()


def test_each_size_class_has_its_slots(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 1 << 40)
        for number in range(5):
            uploads.ask(f"large {number}", 8 * MIB)
            uploads.ask(f"middle {number}", MIB)
            uploads.ask(f"small {number}", 1)
        names = list(uploads.granted)
        assert [name for name in names if name.startswith("large")] == ["large 0", "large 1"]
        assert len([name for name in names if name.startswith("middle")]) == 4
        assert len([name for name in names if name.startswith("small")]) == 5
        uploads.leave("large 1")
        assert "large 2" in uploads.granted and "large 3" not in uploads.granted
        statistics = uploads.admission.statistics
        assert (statistics.waiting, statistics.under_way) == (3, 11)
        await uploads.close()

    asyncio.run(run())


def test_memory_is_granted_in_order_so_that_small_ones_do_not_starve_large_ones(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 100)
        uploads.ask("first", 60)
        uploads.ask("large", 90)
        uploads.ask("small", 10)
        assert list(uploads.granted) == ["first"]
        uploads.leave("first")  # whole, but not yet in the sum
        assert list(uploads.granted) == ["first"]
        uploads.granted["first"].release()
        assert list(uploads.granted) == ["first", "large", "small"]
        assert uploads.admission.statistics.free_bytes == 0
        await uploads.close()

    asyncio.run(run())


def test_larger_than_all_memory_means_a_file(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 100)
        uploads.ask("huge", 101)
        await uploads.until_granted("huge")
        assert isinstance(uploads.granted["huge"], SpoolStorage)
        assert uploads.admission.statistics.free_bytes == 100
        await uploads.close()

    asyncio.run(run())


def test_who_waits_long_for_memory_gets_a_file(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 100, slow_after_s=0.01)
        uploads.ask("first", 100)
        uploads.ask("second", 50)
        await uploads.until_granted("second")
        assert isinstance(uploads.granted["first"], MemoryStorage)
        assert isinstance(uploads.granted["second"], SpoolStorage)
        await uploads.close()

    asyncio.run(run())


def test_a_slow_upload_leaves_its_slot_to_another(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 1 << 40, slow_after_s=0.01)
        for number in range(3):
            uploads.ask(f"large {number}", 8 * MIB)
        assert "large 2" not in uploads.granted
        await uploads.until_granted("large 2")  # though nobody left
        await uploads.close()

    asyncio.run(run())


def test_slow_uploads_to_files_leave_their_slots_as_long_as_there_is_memory_for_their_streams(tmp_path: Path) -> None:
    async def run() -> None:
        memory = 280 * MIB
        uploads = Uploads(tmp_path, memory, slow_after_s=0.0)
        for number in range(8):
            uploads.ask(f"{number}", memory + 1)  # to a file; 1.5 s at the speed that is expected
        await uploads.until_granted("4")
        # Three have left their slots, with 20 MiB each; two hold the slots: nobody else until one is done.
        assert uploads.admission.statistics.under_way == 2
        assert uploads.admission.statistics.free_bytes == 220 * MIB
        await asyncio.sleep(2.0)  # as long as a slow one would wait: that nothing happens cannot be waited for
        assert sorted(uploads.granted) == ["0", "1", "2", "3", "4"]
        uploads.leave("0")
        await uploads.until_granted("5")
        assert uploads.admission.statistics.free_bytes == 220 * MIB
        for number in range(1, 8):
            await uploads.until_granted(f"{number}")
            uploads.leave(f"{number}")
        assert uploads.admission.statistics.free_bytes == memory
        await uploads.close()

    asyncio.run(run())


def test_an_upload_that_goes_on_needs_a_slot_and_no_memory(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 10)
        uploads.ask("other", 10)
        file = await uploads.spool.create(500)
        uploads.ask("resumed", 10, storage=file)
        assert uploads.granted["resumed"] is file
        await uploads.close()

    asyncio.run(run())


def test_one_that_leaves_the_queue_is_not_granted(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 100)
        uploads.ask("first", 100)
        uploads.ask("second", 100)
        uploads.leave("second")
        uploads.leave("first")
        uploads.granted["first"].release()
        assert list(uploads.granted) == ["first"]
        assert uploads.admission.statistics.free_bytes == 100
        await uploads.close()

    asyncio.run(run())


def test_a_disk_without_room_fails_that_upload_only(tmp_path: Path) -> None:
    async def run() -> None:
        uploads = Uploads(tmp_path, 100)
        uploads.ask("impossible", 1 << 60)
        await uploads.changes.until(lambda: "impossible" in uploads.failed)
        assert uploads.failed["impossible"].code == "spool_full"
        uploads.ask("next", 100)
        assert "next" in uploads.granted
        await uploads.close()

    asyncio.run(run())
