"""What moves messages between workers. New ones are found by entry point (fedn.worker_backends)."""

from fedn.workers.backends.attach import attach, load_backend
from fedn.workers.backends.base import BACKENDS, Arrival, Backend, Departure, WorkerStart
from fedn.workers.backends.in_process import InProcess, InProcessNetwork
from fedn.workers.backends.local import Local

__all__ = [
    "BACKENDS",
    "Arrival",
    "Backend",
    "Departure",
    "InProcess",
    "InProcessNetwork",
    "Local",
    "WorkerStart",
    "attach",
    "load_backend",
]
