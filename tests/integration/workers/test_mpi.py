"""The back end mpi in programs as users start them: with mpiexec. Its contract is held in test_backends."""

import os
import signal
import subprocess
import sys

import pytest

from tests.support.mpi_job import mpiexec

GOSSIP = """
import numpy as np
from fedn.workers import AsymmetricTopologyManager, attach
from fedn.workers.algorithms import PushSumWorker

topology = AsymmetricTopologyManager(attach().size, 2, 1, seed=3)
start = {"x": np.array([float(attach().rank)])}
still = lambda model, round_index: {"x": np.zeros(1)}
found = PushSumWorker(start, topology, still, 60, 0.0).run()["x"][0]
print(f"{attach().rank} {found}\\n", end="", flush=True)
"""

ONE_FAILS = """
from fedn.workers import WorkerManager

worker = WorkerManager(backend="MPI")
if worker.rank == 1:
    raise ValueError("no data here")
worker.run()
"""

LISTEN = """
import os
from fedn.workers import WorkerManager

worker = WorkerManager()
print(f"{worker.rank} {os.getpid()}\\n", end="", flush=True)
worker.run()
"""

IDLE = """
import time
from fedn.workers import attach

worker = attach()
if worker.rank == 0:
    before = time.process_time()
    assert worker.receive(2) is None
    print(time.process_time() - before)
else:
    worker.receive(None)  # until the other one is gone
worker.close()
"""


def ended(job: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return job.communicate(timeout=120)
    finally:
        job.kill()


def test_a_program_runs_under_mpiexec_and_ends() -> None:
    job = mpiexec(4, "-c", GOSSIP, FEDN_WORKER_BACKEND="mpi")
    out, err = ended(job)
    assert job.returncode == 0, err
    results = dict(line.split() for line in out.splitlines())
    assert sorted(results) == ["0", "1", "2", "3"]
    assert [float(value) for value in results.values()] == pytest.approx([1.5] * 4)


def test_a_worker_that_fails_ends_the_others_and_the_job_says_so() -> None:
    job = mpiexec(3, "-c", ONE_FAILS)
    _, err = ended(job)
    assert job.returncode != 0
    assert "ValueError: no data here" in err and "Worker 1 is lost: it ended without a word" in err


def test_a_killed_worker_ends_the_whole_job() -> None:
    job = mpiexec(3, "-c", LISTEN, FEDN_WORKER_BACKEND="mpi")
    assert job.stdout is not None
    pids = dict(job.stdout.readline().split() for _ in range(3))
    os.kill(int(pids["1"]), signal.SIGKILL)
    ended(job)
    assert job.returncode != 0


def test_who_waits_leaves_the_processor_alone() -> None:
    job = mpiexec(2, "-c", IDLE, FEDN_WORKER_BACKEND="mpi")
    out, err = ended(job)
    assert job.returncode == 0, err
    # A wait within MPI would have spun for all of the two seconds.
    assert float(out) < 0.5


def test_where_there_is_no_mpi_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["mpi4py"] = None
from fedn.workers import attach
from fedn.protocol.errors import InvalidInput
try:
    attach("mpi")
except InvalidInput as error:
    print(error.code, error.fix)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("mpi_missing pip install fedn[mpi]")
