"""The contract of all back ends, for each of them."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from fedn.protocol.errors import InvalidInput
from fedn.workers import PeerUnavailable, backends
from fedn.workers.backends import Arrival, Backend, Departure, Local, load_backend
from tests.support.mpi_job import MpiJob, mpi_job
from tests.support.worker_backends import NAMES, THROUGH_REDUCER, connect_over

Connect = Callable[..., Sequence[Backend]]


@pytest.fixture(scope="module")
def mpi() -> Iterator[MpiJob]:
    with mpi_job(4) as job:
        yield job


@pytest.fixture(params=[*NAMES, THROUGH_REDUCER, "mpi"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    make = connect_over(request)
    made: list[Backend] = []

    def connect(size: int, stall_s: float = 60) -> Sequence[Backend]:
        workers: Sequence[Backend] = make(size, stall_s)
        made.extend(workers)
        return workers

    yield connect
    for worker in made:
        worker.close()


@pytest.fixture
def large_bytes(request: pytest.FixtureRequest) -> int:
    """Of a large frame. It passes three processes more on the way through the reducer, and is smaller there."""
    return 40_000_000 if request.node.callspec.params["connect"] == THROUGH_REDUCER else 200_000_000


def take(backend: Backend) -> Arrival:
    came = backend.receive(60)
    assert isinstance(came, Arrival), came
    return came


def test_they_are_found_by_their_names() -> None:
    assert load_backend("in-process") is backends.InProcess
    assert load_backend("local") is backends.Local
    assert load_backend("GRPC").__name__ == "Grpc"
    assert load_backend("MPI").__name__ == "Mpi"
    with pytest.raises(InvalidInput, match="in-process"):
        load_backend("pigeon")


def test_frames_of_each_pair_come_in_order_once_and_none_is_lost(connect: Connect) -> None:
    size, count = 4, 500
    workers = connect(size)

    def send(sender: int) -> None:
        for number in range(count):
            for receiver in range(size):
                if receiver != sender:
                    workers[sender].send(receiver, f"{sender} {number}".encode())

    threads = [threading.Thread(target=send, args=(rank,)) for rank in range(size)]
    got: list[list[list[int]]] = [[[] for _ in range(size)] for _ in range(size)]

    def receive(rank: int) -> None:
        for _ in range(count * (size - 1)):
            came = take(workers[rank])
            sender, number = bytes(came.frame).decode().split()
            assert int(sender) == came.sender
            got[rank][came.sender].append(int(number))

    threads += [threading.Thread(target=receive, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for rank in range(size):
        for sender in range(size):
            assert got[rank][sender] == ([] if rank == sender else list(range(count)))
    assert workers[0].receive(0.01) is None


def test_a_large_frame_comes_whole_while_the_other_side_sends_one_too(connect: Connect, large_bytes: int) -> None:
    workers = connect(2)
    frames = [np.random.default_rng(rank).bytes(large_bytes) for rank in range(2)]
    sending = threading.Thread(target=workers[1].send, args=(0, frames[1]))
    sending.start()
    workers[0].send(1, frames[0])
    assert take(workers[1]).frame == frames[0]
    assert take(workers[0]).frame == frames[1]
    sending.join(60)
    assert not sending.is_alive()


def test_empty_frames_and_frames_to_oneself(connect: Connect) -> None:
    workers = connect(2)
    workers[0].send(1, b"")
    workers[0].send(0, b"self")
    assert take(workers[1]) == Arrival(0, b"")
    assert take(workers[0]) == Arrival(0, b"self")


def test_who_closes_loses_nothing_and_the_others_hear_of_it_last(connect: Connect) -> None:
    workers = connect(3)
    for number in range(20):
        workers[0].send(1, bytes([number]))
    workers[0].close()
    assert [bytes(take(workers[1]).frame)[0] for _ in range(20)] == list(range(20))
    assert workers[1].receive(60) == Departure(0, None)
    assert workers[2].receive(60) == Departure(0, None)
    for _ in range(2):
        with pytest.raises(PeerUnavailable) as caught:
            workers[1].send(0, b"late")
        assert caught.value.code in {"worker_finished", "peer_lost"}
    with pytest.raises(PeerUnavailable):
        workers[0].send(1, b"after the end")
    with pytest.raises(PeerUnavailable):
        workers[0].receive(1)


def test_who_fails_says_why(connect: Connect) -> None:
    workers = connect(2)
    workers[0].close("ValueError: no data")
    assert workers[1].receive(60) == Departure(0, "ValueError: no data")


def test_a_sender_to_whom_nobody_listens_blocks_and_is_told(connect: Connect) -> None:
    workers = connect(2, stall_s=0.3)

    def send_much() -> None:
        for _ in range(1000):
            workers[0].send(1, bytes(10_000_000))

    with pytest.raises(PeerUnavailable) as caught:
        send_much()
    assert caught.value.code == "peer_stalled"


def test_a_blocked_sender_goes_on_when_there_is_room(connect: Connect, large_bytes: int) -> None:
    workers = connect(2)
    part = bytes(large_bytes // 20)
    sending = threading.Thread(target=lambda: [workers[0].send(1, part) for _ in range(20)])
    sending.start()
    assert sum(len(take(workers[1]).frame) for _ in range(20)) == large_bytes
    sending.join(60)
    assert not sending.is_alive()


def test_a_closed_receiver_wakes_a_blocked_sender(connect: Connect) -> None:
    workers = connect(2)
    codes = []

    def send() -> None:
        try:
            for _ in range(1000):
                workers[0].send(1, bytes(10_000_000))
        except PeerUnavailable as error:
            codes.append(error.code)

    sending = threading.Thread(target=send)
    sending.start()
    take(workers[1])
    workers[1].close()
    sending.join(60)
    assert not sending.is_alive() and codes and codes[0] in {"worker_finished", "peer_lost"}


def test_there_is_no_worker_beyond_the_last(connect: Connect) -> None:
    for receiver in (-1, 2):
        with pytest.raises(InvalidInput, match="0 to 1"):
            connect(2)[0].send(receiver, b"")


def test_a_peer_that_vanishes_without_a_word_is_noticed() -> None:
    mine, other = socket.socketpair()
    worker = Local(0, 2, {1: mine})
    other.sendall(b"\x00\x05\x00")
    other.close()
    came = worker.receive(60)
    assert isinstance(came, Departure) and came.rank == 1 and came.reason and "without a word" in came.reason
    worker.close()


@pytest.mark.parametrize("garbage", [b"\x07" + bytes(8), b"\x00" + b"\xff" * 8, b"\x02" + b"\x00\x00\xff" + bytes(5)])
def test_a_peer_that_sends_rubbish_is_given_up(garbage: bytes) -> None:
    mine, other = socket.socketpair()
    worker = Local(0, 2, {1: mine})
    other.sendall(garbage)
    came = worker.receive(60)
    assert isinstance(came, Departure) and came.reason
    worker.close()
    other.close()
