"""`fedn worker run`: the workers of a script, over each back end, with their logs and their one end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.workers.conftest import RelayedWorkers
from tests.support.federation import wait_for
from tests.support.processes import has_ended

GOSSIP = """
import sys
from fedn.workers import Message, WorkerManager
from fedn.workers.topology import launched_topology

worker = WorkerManager()
worker.collect_by_round("value")
topology = launched_topology(worker.size)
out, into = topology.get_out_neighbor_idx_list(worker.rank), topology.get_in_neighbor_idx_list(worker.rank)
for peer in out:
    message = Message("value", worker.rank, peer, round_index=0)
    message.add_params("rank", worker.rank)
    worker.send_message(message)
heard = sorted(message.get("rank") for message in worker.wait_for(into, 0, timeout=60).values())
worker.finish()
print(f"worker {worker.rank} of {worker.size} with {sys.argv[1]} heard {heard}")
"""

FAIL = """
from fedn.workers import WorkerManager
worker = WorkerManager()
if worker.rank == 1:
    raise SystemExit(7)
print("listening", flush=True)
worker.run()
"""

LISTEN = """
import os
from fedn.workers import WorkerManager
worker = WorkerManager()
print("listening as", os.getpid(), flush=True)
worker.run()
"""

STUBBORN = """
import os, signal, subprocess, sys
from fedn.workers import WorkerManager
signal.signal(signal.SIGTERM, signal.SIG_IGN)
started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
worker = WorkerManager()
print("listening as", os.getpid(), started.pid, flush=True)
worker.run()
"""

KILLED = """
import os, signal
from fedn.workers import WorkerManager
worker = WorkerManager()
if worker.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
worker.run()
"""


def command(folder: Path, code: str, *options: str) -> list[str]:
    script = folder / "script.py"
    script.write_text(code)
    return [sys.executable, "-m", "fedn.cli.main", "worker", "run", str(script), *options]


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FEDN_")}
    return kept | {"PYTHONUNBUFFERED": "1"}


def worker_run(folder: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, code, *options), cwd=folder, env=environment(), capture_output=True, text=True, timeout=200
    )


@pytest.mark.parametrize("backend", ["in-process", "local", "mpi"])
def test_a_script_runs_as_workers_with_a_topology_and_its_own_arguments(tmp_path: Path, backend: str) -> None:
    done = worker_run(tmp_path, GOSSIP, "-n", "4", "--backend", backend, "--topology", "symmetric", "--", "love")
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in range(4):
        line = f"worker {rank} of 4 with love heard {sorted([(rank - 1) % 4, (rank + 1) % 4])}"
        assert line in done.stdout
        if backend != "in-process":
            assert f"[{rank}] {line}" in done.stdout
            assert line in (tmp_path / "worker-logs" / f"worker-{rank}.log").read_text()


def test_workers_of_one_group_run_at_two_sites(tmp_path: Path, relayed: RelayedWorkers) -> None:
    group = relayed.group(3)
    join = relayed.federation.api.join_string(relayed.federation.url).join
    options = ("--backend", "grpc", "--group", group, "--join", join, "--topology", "complete")
    sites = []
    for site, count in (("north", 2), ("south", 1)):
        folder = tmp_path / site
        folder.mkdir()
        arguments = command(folder, GOSSIP, "-n", str(count), *options, "--name-base", site, "--", "both")
        sites.append(
            subprocess.Popen(
                arguments, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    outputs = [site.communicate(timeout=120)[0] for site in sites]
    assert [site.returncode for site in sites] == [0, 0], outputs
    for rank in range(3):
        others = [other for other in range(3) if other != rank]
        assert f"worker {rank} of 3 with both heard {others}" in "".join(outputs)
    members = relayed.federation.api.worker_group(group).members
    assert {member.client for member in members} == {"north-0", "north-1", "south-0"}


@pytest.mark.parametrize("backend", ["local", "mpi"])
def test_the_first_failure_ends_the_others_and_is_the_exit_status(tmp_path: Path, backend: str) -> None:
    done = worker_run(tmp_path, FAIL, "-n", "3", "--backend", backend)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "worker-1 has ended with exit status 7" in done.stderr and "worker-1.log" in done.stderr


def test_a_killed_worker_ends_an_mpi_job(tmp_path: Path) -> None:
    done = worker_run(tmp_path, KILLED, "-n", "3", "--backend", "mpi")
    assert done.returncode == signal.SIGKILL, done.stdout + done.stderr  # as MPICH's mpiexec has it
    assert "mpiexec has ended" in done.stderr and "mpiexec.log" in done.stderr
    assert "BAD TERMINATION" in (tmp_path / "worker-logs" / "mpiexec.log").read_text()


@pytest.mark.parametrize(
    ("backend", "number", "code"),
    [
        ("local", signal.SIGINT, LISTEN),
        ("local", signal.SIGTERM, LISTEN),
        ("local", signal.SIGKILL, LISTEN),
        ("mpi", signal.SIGINT, LISTEN),
        ("mpi", signal.SIGTERM, STUBBORN),
        ("mpi", signal.SIGKILL, LISTEN),
    ],
)
def test_the_end_of_the_command_ends_all(tmp_path: Path, backend: str, number: signal.Signals, code: str) -> None:
    with subprocess.Popen(
        command(tmp_path, code, "-n", "2", "--backend", backend),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        pids = [int(pid) for _ in range(2) for pid in running.stdout.readline().partition(" as ")[2].split()]
        running.send_signal(number)
        output, _ = running.communicate(timeout=200)
    assert running.returncode == (-9 if number is signal.SIGKILL else 130), output
    wait_for(lambda: all(map(has_ended, pids)), "the workers are gone")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--topology", "mesh"), "symmetric"),
        (("--topology", "hypercube"), "1, 2, 4, 8"),
        (("--topology-option", "p=1"), "--topology"),
        (("--group", "g"), "--backend grpc"),
        (("--backend", "pigeon"), "in-process"),
        (("--backend", "grpc", "--first-rank", "1"), "--group"),
    ],
)
def test_what_would_not_work_is_refused_before_anything_starts(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    done = worker_run(tmp_path, LISTEN, "-n", "3", *options)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert not (tmp_path / "worker-logs").exists()
