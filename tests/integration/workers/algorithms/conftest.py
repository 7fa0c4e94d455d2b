"""Every algorithm runs over every back end."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fedn.workers.backends.attach import BACKEND
from tests.support.worker_backends import NAMES, Run, connect_over, run_over

IN_A_JOB = os.environ.get(BACKEND) == "mpi"
"""Whether this process is a rank of the job that test_over_mpi starts, and runs its tests as one worker of each."""


@pytest.fixture(params=["mpi"] if IN_A_JOB else NAMES)
def run(request: pytest.FixtureRequest) -> Run:
    if IN_A_JOB:
        from tests.support.spmd import run_as_ranks  # it starts MPI

        return run_as_ranks
    over: Callable[[int, Callable[[int], Any]], list[Any]] = partial(run_over, connect_over(request))
    return over
