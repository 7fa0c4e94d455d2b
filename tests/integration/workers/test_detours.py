"""Workers at a combiner that does not reach their home, in real processes: what changes on the way loses nothing."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedn.protocol.rest import EventView
from fedn.reducer.detours.stream import HELD_BYTES
from fedn.workers.backends import Arrival, Backend
from tests.integration.workers.conftest import ApartWorkers
from tests.support.federation import wait_for

FRAME_BYTES = 300_000
COUNT = 300
"""More than a receiver takes in before it is asked for it, so that something is under way until the end."""


@pytest.fixture
def closing() -> Iterator[Callable[[Backend], Backend]]:
    """Closes the workers that it is given, at the end."""
    made: list[Backend] = []

    def note(worker: Backend) -> Backend:
        made.append(worker)
        return worker

    yield note
    for worker in made:
        worker.close("the test is over")


class Talk:
    """Two workers, of whom each sends the other numbered frames."""

    def __init__(self, workers: list[Backend]) -> None:
        self._workers = workers
        self._threads = [threading.Thread(target=self._send, args=(rank,)) for rank in range(2)]
        self.got: list[list[int]] = [[], []]
        for thread in self._threads:
            thread.start()

    def _send(self, rank: int) -> None:
        for number in range(COUNT):
            self._workers[rank].send(1 - rank, number.to_bytes(4, "big") * (FRAME_BYTES // 4))

    def take(self, count: int) -> None:
        """The next so many frames of each."""
        for _ in range(count):
            for rank in range(2):
                came = self._workers[rank].receive(120)
                assert isinstance(came, Arrival), came
                number = int.from_bytes(came.frame[:4], "big")
                assert came.frame == number.to_bytes(4, "big") * (FRAME_BYTES // 4)
                self.got[rank].append(number)

    def end(self) -> None:
        """Takes the rest: each frame came once, and in order."""
        self.take(COUNT - len(self.got[0]))
        for thread in self._threads:
            thread.join(60)
        assert self.got == [list(range(COUNT))] * 2


def streams(apart: ApartWorkers) -> int:
    """Those that the reducer hands on, by its metrics."""
    return int(measured(apart, "fedn_relayed_worker_streams"))


def measured(apart: ApartWorkers, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", apart.federation.api._http.text("/metrics"), re.MULTILINE)
    assert found, name
    return float(found[1])


def detours_told(apart: ApartWorkers) -> list[EventView]:
    return [event for event in apart.federation.api.events().events if event.kind == "worker_detour"]


def log_of(apart: ApartWorkers, name: str) -> str:
    return apart.federation.processes[name].log.read_text()


def test_a_change_of_the_way_in_the_middle_loses_nothing_and_repeats_nothing(
    apart: ApartWorkers, closing: Callable[[Backend], Backend]
) -> None:
    reducer, other = (apart.federation.processes[name].pid for name in ("reducer", "c2"))
    talk = Talk([closing(worker) for worker in apart.connect(2, 60)])
    talk.take(20)
    assert streams(apart) == 1 and measured(apart, "fedn_relayed_worker_bytes_total") > 0
    apart.proxy.heal(other)
    talk.take(5)
    assert streams(apart) == 1  # until it attaches again
    apart.proxy.cut(reducer)
    wait_for(lambda: "is reached at" in log_of(apart, "c2"), "it goes directly")
    assert streams(apart) == 0
    talk.take(20)
    apart.proxy.heal(reducer)
    apart.proxy.cut(other)
    wait_for(lambda: streams(apart) == 1, "it goes through the reducer again")
    talk.end()
    told = detours_told(apart)[-1].fields
    assert (told["combiner"], told["home"], told["address"]) == ("c2", "c1", f"127.0.0.1:{apart.proxy.port}")
    assert told["reason"] and "Let c2 reach" in told["fix"]
    assert "go through the reducer" in log_of(apart, "c2")


def test_a_killed_reducer_that_comes_back_goes_on_with_the_traffic(
    apart: ApartWorkers, closing: Callable[[Backend], Backend]
) -> None:
    group = apart.group(2)
    apart.proxy.cut(os.getpid())  # else the workers would go to the home themselves, which is another way out
    try:
        talk = Talk([closing(apart.worker(group, rank, "c2")) for rank in range(2)])
        talk.take(COUNT // 3)
        reducer = apart.federation.processes["reducer"]
        reducer.kill()
        reducer.start()
        talk.end()
        assert streams(apart) == 2
    finally:
        apart.proxy.heal(os.getpid())


def test_a_large_frame_costs_the_reducer_little_memory(
    apart: ApartWorkers, closing: Callable[[Backend], Backend]
) -> None:
    workers = [closing(worker) for worker in apart.connect(2, 60)]
    workers[0].send(1, b"first")
    assert workers[1].receive(120) == Arrival(0, b"first")
    before = peak_bytes(apart)
    frame = os.urandom(1 << 20) * 100
    workers[0].send(1, frame)
    came = workers[1].receive(120)
    assert isinstance(came, Arrival) and came.frame == frame
    assert peak_bytes(apart) - before < HELD_BYTES + (10 << 20)  # the allocator's own is counted too


def peak_bytes(apart: ApartWorkers) -> int:
    status = Path(f"/proc/{apart.federation.processes['reducer'].pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) << 10
