"""The back end local, with processes: attached by what the launcher gives them; a killed one is noticed."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedn.protocol.errors import InvalidInput
from fedn.workers import InProcessNetwork
from fedn.workers.backends import InProcess, Local

RING = """
import sys
from fedn.workers import Message, SymmetricTopologyManager, WorkerManager, attach

worker = WorkerManager()
assert attach() is worker.comm
ring = SymmetricTopologyManager(worker.size)
worker.collect_by_round("x")
total = 0
for index in range(50):
    for peer in ring.get_out_neighbor_idx_list(worker.rank):
        message = Message("x", worker.rank, peer, round_index=index)
        message.add_params("value", worker.rank + index)
        worker.send_message(message)
    total += sum(m.get("value") for m in worker.wait_for(ring.get_in_neighbor_idx_list(worker.rank), index).values())
worker.finish()
print(total)
"""

LISTEN = """
from fedn.workers import WorkerManager
print("ready", flush=True)
WorkerManager().run()
"""


def start(size: int, code: str, environment: dict[str, str]) -> list[subprocess.Popen[str]]:
    with Local.start(size) as starts:
        return [
            subprocess.Popen(
                [sys.executable, "-c", code],
                env={**environment, **given.environment, "FEDN_WORKER_BACKEND": "LOCAL"},
                pass_fds=given.pass_fds,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for given in starts
        ]


@pytest.fixture
def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[3]
    return {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}


def test_processes_exchange_rounds_and_end(environment: dict[str, str]) -> None:
    size = 5
    workers = start(size, RING, environment)
    for rank, worker in enumerate(workers):
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
        neighbours = (rank - 1) % size, (rank + 1) % size
        assert int(out) == 50 * sum(neighbours) + 2 * sum(range(50))


def test_a_killed_process_ends_those_who_listen_with_the_reason(environment: dict[str, str]) -> None:
    workers = start(3, LISTEN, environment)
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    workers[1].kill()
    errors = []
    for worker in workers:
        errors.append(worker.communicate(timeout=120)[1])
    assert workers[0].returncode == workers[2].returncode == 1
    # Whoever hears of the kill first ends, and the last one may hear of that end before it hears of the kill.
    assert any("Worker 1 is lost: it ended without a word" in errors[rank] for rank in (0, 2))
    assert all("peer_lost" in errors[rank] for rank in (0, 2))


def test_only_a_launched_process_can_be_attached() -> None:
    with pytest.raises(InvalidInput) as caught:
        Local.attach({})
    assert caught.value.code == "no_worker_backend"


def test_threads_are_not_started_as_processes() -> None:
    with pytest.raises(InvalidInput, match="run_workers"):
        InProcess.attach({})
    with pytest.raises(InvalidInput, match="run_workers") as caught:
        InProcess.start(2)
    assert caught.value.code == "cannot_launch"
    assert InProcessNetwork(2).attach(1).size == 2
