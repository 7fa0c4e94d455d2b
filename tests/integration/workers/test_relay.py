"""The back end grpc when things break: cuts, a combiner's restart, dead workers, second instances, two combiners."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedn.network.join import JoinString
from fedn.protocol.errors import FednError
from fedn.workers import PeerUnavailable
from fedn.workers.backends import Arrival, Backend, Departure
from tests.integration.workers.conftest import RelayedWorkers
from tests.support.federation import Federation, wait_for
from tests.support.proxy import ProcessProxy

FRAME_BYTES = 300_000
COUNT = 120


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


class Cut(RelayedWorkers):
    """With two combiners, the first behind a proxy, that lose a worker after two seconds."""

    def __init__(self, federation: Federation, proxy: ProcessProxy, folder: Path) -> None:
        super().__init__(federation, folder)
        self.proxy = proxy

    def follow(self) -> None:
        """The first combiner has a port of its own again."""
        wait_for(lambda: self.federation.listening_port("c1"), "the combiner listens")
        self.proxy.target_port = self.federation.listening_port("c1") or 0


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cut]:
    folder = tmp_path_factory.mktemp("cut")
    with Federation(folder, combiners=0, clients=0) as federation, ProcessProxy() as proxy:
        federation.add_combiner("c1", "--public-port", str(proxy.port), "--worker-grace-s", "5")
        found = Cut(federation, proxy, folder / "workers")
        found.follow()
        wait_for(lambda: any(c.linked for c in federation.api.combiners()), "the first combiner is linked")
        yield found


def sending(worker: Backend, receiver: int, count: int = COUNT) -> threading.Thread:
    """Sends numbered frames in a thread of its own."""

    def send() -> None:
        for number in range(count):
            worker.send(receiver, number.to_bytes(4, "big") * (FRAME_BYTES // 4))

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def take_number(worker: Backend) -> int:
    came = worker.receive(60)
    assert isinstance(came, Arrival), came
    number = int.from_bytes(came.frame[:4], "big")
    assert came.frame == number.to_bytes(4, "big") * (FRAME_BYTES // 4)
    return number


def test_cuts_of_all_streams_lose_nothing_and_repeat_nothing(cut: Cut, closing: Callable[[Backend], Backend]) -> None:
    group = cut.group(2)
    workers = [closing(cut.worker(group, rank)) for rank in range(2)]
    threads = [sending(workers[0], 1), sending(workers[1], 0)]
    got: list[list[int]] = [[], []]
    for number in range(COUNT):
        for rank in range(2):
            got[rank].append(take_number(workers[rank]))
        if number in {10, 50, 90}:
            cut.proxy.cut(os.getpid())
            cut.proxy.heal(os.getpid())
    for thread in threads:
        thread.join(60)
    assert got == [list(range(COUNT))] * 2


def test_a_killed_combiner_that_comes_back_loses_nothing(cut: Cut, closing: Callable[[Backend], Backend]) -> None:
    group = cut.group(2)
    workers = [closing(cut.worker(group, rank)) for rank in range(2)]
    thread = sending(workers[0], 1)
    got = [take_number(workers[1]) for _ in range(COUNT // 3)]
    process = cut.federation.processes["c1"]
    process.kill()
    process.start()
    cut.follow()
    got += [take_number(workers[1]) for _ in range(COUNT - len(got))]
    thread.join(60)
    assert got == list(range(COUNT))
    workers[0].close()
    assert workers[1].receive(60) == Departure(0, None)


def test_a_receiver_that_comes_late_finds_all_that_was_sent(
    relayed: RelayedWorkers, closing: Callable[[Backend], Backend]
) -> None:
    group = relayed.group(2)
    early = closing(relayed.worker(group, 0))
    sending(early, 1).join(60)  # none of it is taken, and the sender goes on
    late = closing(relayed.worker(group, 1))
    assert [take_number(late) for _ in range(COUNT)] == list(range(COUNT))


def test_large_messages_pass_with_little_memory_of_the_combiner(
    relayed: RelayedWorkers, closing: Callable[[Backend], Backend]
) -> None:
    group = relayed.group(2)
    workers = [closing(relayed.worker(group, rank)) for rank in range(2)]
    frame = bytes(400_000_000)
    workers[0].send(1, frame)
    came = workers[1].receive(120)
    assert isinstance(came, Arrival) and came.frame == frame
    status = Path(f"/proc/{relayed.federation.processes['c1'].pid}/status").read_text()
    peak_kb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak_kb < 300_000


def test_the_reducer_knows_who_is_there_and_what_was_relayed(
    relayed: RelayedWorkers, closing: Callable[[Backend], Backend]
) -> None:
    group, api = relayed.group(2), relayed.federation.api
    workers = [closing(relayed.worker(group, rank)) for rank in range(2)]
    sending(workers[0], 1).join(60)
    assert [take_number(workers[1]) for _ in range(COUNT)] == list(range(COUNT))
    wait_for(lambda: api.worker_group(group).traffic.received_messages == COUNT, "all is reported")
    view = api.worker_group(group)
    assert view.attached == 2 and view.traffic.spooled_bytes == 0
    sent, received = view.members[0].traffic, view.members[1].traffic
    assert (sent.sent_messages, received.received_messages, received.sent_messages) == (COUNT, COUNT, 0)
    assert sent.sent_bytes == received.received_bytes >= COUNT * FRAME_BYTES
    for worker in workers:
        worker.close()
    wait_for(
        lambda: {member.traffic.state for member in api.worker_group(group).members} == {"finished"},
        "their end is reported",
    )


def test_a_reducer_that_was_started_anew_is_told_again_what_was_relayed(
    cut: Cut, closing: Callable[[Backend], Backend]
) -> None:
    group, api = cut.group(2), cut.federation.api
    workers = [closing(cut.worker(group, rank)) for rank in range(2)]
    workers[0].send(1, b"once")
    assert isinstance(workers[1].receive(60), Arrival)
    wait_for(lambda: api.worker_group(group).traffic.received_messages == 1, "it is reported")
    process = cut.federation.processes["reducer"]
    process.kill()
    process.start()
    wait_for(lambda: api.worker_group(group).traffic.received_messages == 1, "it is reported again")


def test_who_never_comes_is_told_to_the_sender(relayed: RelayedWorkers, closing: Callable[[Backend], Backend]) -> None:
    early = closing(relayed.worker(relayed.group(2), 0, stall_s=0.5))

    def send_much() -> None:
        for _ in range(300):
            early.send(1, bytes(1_000_000))

    with pytest.raises(PeerUnavailable) as caught:
        send_much()
    assert caught.value.code == "peer_stalled" and "Worker 1" in caught.value.message


DIE = """
from fedn.workers import attach
attach().send(0, b"alive")
print("ready", flush=True)
input()
"""


def test_a_killed_worker_is_told_to_the_others_with_the_reason(
    cut: Cut, closing: Callable[[Backend], Backend], tmp_path: Path
) -> None:
    group = cut.group(2)
    join = cut.federation.api.join_string(cut.federation.url).join
    assert JoinString.parse(join).secret
    variables = {
        "FEDN_WORKER_BACKEND": "grpc",
        "FEDN_WORKER_GROUP": group,
        "FEDN_WORKER_JOIN": join,
        "FEDN_WORKER_NAME": "the-one-that-dies",
        "FEDN_WORKER_DATA_DIR": str(tmp_path / "dies"),
        "FEDN_WORKER_RANK": "1",
    }
    mine = closing(cut.worker(group, 0))
    with subprocess.Popen(
        [sys.executable, "-c", DIE],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert mine.receive(60) == Arrival(1, b"alive")
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    came = mine.receive(60)
    assert isinstance(came, Departure) and came.rank == 1 and came.reason and "did not come back" in came.reason
    with pytest.raises(PeerUnavailable, match="Worker 1 is gone"):
        mine.send(1, b"too late")


def test_a_second_instance_of_a_rank_is_refused_with_the_reason(
    relayed: RelayedWorkers, closing: Callable[[Backend], Backend]
) -> None:
    group = relayed.group(2)
    first = closing(relayed.worker(group, 0))
    desk = first._desk  # type: ignore[attr-defined]  # two processes of one data directory cannot be, so: the same key
    with pytest.raises(FednError) as caught:
        type(first)(desk)  # type: ignore[call-arg]
    assert caught.value.code == "rank_taken"
    first.send(0, b"goes on")
    assert first.receive(60) == Arrival(0, b"goes on")


def test_another_client_gets_neither_a_given_rank_nor_a_place_too_many(
    relayed: RelayedWorkers, closing: Callable[[Backend], Backend]
) -> None:
    group = relayed.group(1)
    closing(relayed.worker(group, 0))
    for rank, code in ((0, "rank_given"), (None, "worker_group_full"), (1, "no_such_worker")):
        other = relayed.desk(group, rank, name="somebody else")
        with contextlib.closing(other), pytest.raises(FednError) as caught:
            other.join(())
        assert caught.value.code == code


def test_a_group_can_be_run_again_after_its_end(relayed: RelayedWorkers) -> None:
    group = relayed.group(2)
    for _ in range(2):
        workers = [relayed.worker(group, rank) for rank in range(2)]
        workers[0].send(1, b"again")
        assert workers[1].receive(60) == Arrival(0, b"again")
        for worker in workers:
            worker.close()


def test_workers_at_two_combiners_meet_at_the_home_and_outlive_its_move(
    cut: Cut, closing: Callable[[Backend], Backend]
) -> None:
    cut.federation.add_combiner("c2", "--worker-grace-s", "60")
    wait_for(lambda: cut.federation.api.combiner("c2").linked, "the second combiner is linked")
    group = cut.group(3)
    workers = [closing(cut.worker(group, rank, combiner)) for rank, combiner in enumerate(["c1", "c2", ""])]
    home = cut.federation.api.worker_group(group).home
    for sender in range(3):
        for receiver in range(3):
            workers[sender].send(receiver, f"{sender}".encode())
    for worker in workers:
        assert {worker.receive(60).frame.decode() for _ in range(3)} == {"0", "1", "2"}  # type: ignore[union-attr]
    thread = sending(workers[1], 0)
    got = [take_number(workers[0]) for _ in range(COUNT // 3)]
    cut.federation.processes[home].kill()
    got += [take_number(workers[0]) for _ in range(COUNT - len(got))]
    thread.join(60)
    assert got == list(range(COUNT))
    assert cut.federation.api.worker_group(group).home != home
