"""Tests inside an MPI job: every rank runs the same tests in the same order, and is one worker in each of their runs.

`fedn worker run tests/support/spmd.py -n N --backend mpi -- ARGUMENTS OF PYTEST` runs them. The tests are those that
run over the other back ends too, with the same references: only their `run` is another one.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mpi4py import MPI

from fedn.workers import run_workers
from fedn.workers.backends.mpi import Mpi


def run_as_ranks(size: int, worker: Callable[[int], Any]) -> list[Any]:
    """run_workers, where each of the first `size` ranks of the job is a worker; all ranks get what all returned."""
    world = MPI.COMM_WORLD
    assert size <= world.Get_size(), f"the job has {world.Get_size()} ranks, and the test wants {size}"
    rank = world.Get_rank()
    _meet(world)
    mine = world.Split(0 if rank < size else MPI.UNDEFINED, rank)
    result = None
    if mine != MPI.COMM_NULL:
        result = run_workers(1, lambda _: worker(rank), connections=[Mpi(mine)])[0]
    _meet(world)
    return world.allgather(result)[:size]


def _meet(world: MPI.Intracomm) -> None:
    """Waits for all ranks, and leaves the processors to them: MPI's own waiting spins."""
    everybody, rest = world.Ibarrier(), threading.Event()
    while not everybody.Test():
        rest.wait(0.002)


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
