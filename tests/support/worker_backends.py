"""Workers of a test, as threads, over each back end: add a back end to CONNECTS, or to
connect_over where it needs servers, and all tests of workers use it."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fedn.workers import InProcessNetwork, run_workers
from fedn.workers.backends import Backend, Local

Connect = Callable[[int, float], Sequence[Backend]]
"""Of the number of workers and stall_s: a connection for each."""
Run = Callable[[int, Callable[[int], Any]], list[Any]]
"""As run_workers."""


def in_process(size: int, stall_s: float) -> Sequence[Backend]:
    network = InProcessNetwork(size, stall_s=stall_s)
    return [network.attach(rank) for rank in range(size)]


def local(size: int, stall_s: float) -> Sequence[Backend]:
    ends: list[dict[int, socket.socket]] = [{} for _ in range(size)]
    for low in range(size):
        for high in range(low + 1, size):
            ends[low][high], ends[high][low] = socket.socketpair()
    return [Local(rank, size, mine, stall_s=stall_s) for rank, mine in enumerate(ends)]


CONNECTS: dict[str, Connect] = {"in-process": in_process, "local": local}
THROUGH_REDUCER = "grpc, through the reducer"
SERVED = {"grpc": "relayed", THROUGH_REDUCER: "apart", "mpi": "mpi"}
"""Back ends that need processes, and the fixtures that have them."""
NAMES = (*CONNECTS, "grpc")
"""What a fixture that asks `connect_over` is parametrized with. An MPI job has few processes: its tests name it."""


def connect_over(request: pytest.FixtureRequest) -> Connect:
    """The back end that is the fixture's parameter. What it needs is started when it is first asked for."""
    found: Connect | None = CONNECTS.get(request.param)
    return found or request.getfixturevalue(SERVED[request.param]).connect


def run_over(connect: Connect, size: int, worker: Callable[[int], Any]) -> list[Any]:
    """run_workers over another back end."""
    return run_workers(size, worker, connections=connect(size, 60))
