"""Which back end the worker is attached to that this thread, or this process, is."""

import os
import threading
from collections.abc import Mapping

from fedn.plan.options import load_option
from fedn.protocol.errors import InvalidInput
from fedn.workers.backends.base import BACKENDS, Backend

BACKEND = "FEDN_WORKER_BACKEND"
"""Name of the back end in the environment that a launcher makes for a worker's process."""


class _Attached(threading.local):
    backend: Backend | None = None


_of_thread = _Attached()
_of_process: dict[str, Backend] = {}


def attach(name: str | None = None, environment: Mapping[str, str] = os.environ) -> Backend:
    """The connection of the worker that runs here; the same one at each call.

    Args:
        name: of the back end, case does not count; None: the one that the launcher has chosen.

    Raises:
        InvalidInput: (`no_worker_backend`) nobody has launched this as a worker; (`unknown_option`) no such back end.
    """
    if _of_thread.backend is not None:
        return _of_thread.backend
    name = name or environment.get(BACKEND)
    if name is None:
        raise InvalidInput(
            "no_worker_backend",
            "This process was not launched as a worker",
            fix="Start workers with fedn.workers.run_workers, or as processes with what Local.start gives.",
        )
    name = name.lower()
    if name not in _of_process:
        _of_process[name] = load_backend(name).attach(environment)
    return _of_process[name]


def load_backend(name: str) -> type[Backend]:
    """The back end of this name.

    Raises:
        InvalidInput: (`unknown_option`) there is none; (`broken_option`) it is no back end.
    """
    found = load_option(BACKENDS, name.lower())
    if not issubclass(found, Backend):
        raise InvalidInput("broken_option", f"{name!r} is no Backend", where={"option": name})
    return found


def set_backend_of_thread(backend: Backend | None) -> None:
    """Says to which worker this thread belongs."""
    _of_thread.backend = backend
