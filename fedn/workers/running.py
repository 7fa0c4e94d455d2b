"""Runs workers as threads of this process."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from fedn.workers.backends import Backend, InProcessNetwork
from fedn.workers.backends.attach import attach, set_backend_of_thread
from fedn.workers.errors import PeerUnavailable


def run_workers(size: int, worker: Callable[[int], Any], *, connections: Sequence[Backend] | None = None) -> list[Any]:
    """Calls `worker(rank)` for each rank from 0, each in a thread; in it, a WorkerManager finds its connection.

    Args:
        size: number of workers, at least 1.
        connections: one for each rank; None: in-process ones. They are closed in the end.

    Returns:
        What the calls returned, by rank.

    Raises:
        Exception: the first that a worker has raised, when all have ended; not one that only follows from it.
    """
    if connections is None:
        network = InProcessNetwork(size)
        connections = [network.attach(rank) for rank in range(size)]
    results: list[Any] = [None] * size
    failures: list[tuple[int, BaseException]] = []

    def run(rank: int) -> None:
        backend = connections[rank]
        set_backend_of_thread(backend)
        try:
            results[rank] = worker(rank)
        except BaseException as error:  # noqa: BLE001 - the boundary to the user's code: it is raised again below
            failures.append((rank, error))
            backend.close(f"{type(error).__name__}: {error}")
        else:
            backend.close()

    threads = [threading.Thread(target=run, args=(rank,), name=f"worker-{rank}") for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A worker that ended for the loss of another says less than that other one.
    first = min(failures, key=lambda failure: isinstance(failure[1], PeerUnavailable), default=None)
    if first is not None:
        rank, error = first
        error.add_note(f"In worker {rank} of {size}.")
        raise error
    return results


def FedML_init() -> tuple[Backend, int, int]:  # noqa: N802 - FedML's name
    """FedML's opening line: the connection, this worker's rank, and the number of workers."""
    backend = attach()
    return backend, backend.rank, backend.size
