"""An MPI job of workers on this machine: which mpiexec, what it starts, each rank's output, and how the job ended.

mpiexec mixes what its ranks write, and tells one exit status of all. So each rank reports here by itself, over a Unix
socket that no other user can reach: see `fedn.workers.mpi.rank`.
"""

import contextlib
import os
import queue
import shutil
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fedn.protocol.errors import InvalidInput
from fedn.workers.launching import Outcome, WorkerProcesses, follow
from fedn.workers.mpi.rank import HELLO, STATUS

MPIEXEC = "mpiexec"
_HELLO_S = 10.0
"""A rank that has connected says so soon who it is."""
_LAST_WORDS_S = 5.0
"""What still writes to a rank's output so long after the job's end is not waited for."""
_CREDENTIALS = struct.Struct("3i")


def find_mpiexec() -> str:
    """The mpiexec of the package mpich beside this Python, whose library mpi4py loads; else the one on the path.

    Raises:
        InvalidInput: `mpiexec_missing`; (`mpi_missing`) there is no mpi4py.
    """
    if find_spec("mpi4py") is None:
        raise InvalidInput(
            "mpi_missing", "The package mpi4py is not installed", fix="pip install fedn[mpi] mpich, and try again."
        )
    found = shutil.which(MPIEXEC, path=str(Path(sys.executable).parent)) or shutil.which(MPIEXEC)
    if found is None:
        raise InvalidInput(
            "mpiexec_missing",
            "There is no mpiexec beside this Python, and none on the path",
            fix="pip install mpich, or install the system's MPI (the package mpich), and try again.",
        )
    return found


class Ranks:
    """What the ranks of one job report. A context manager: at its end nothing that a rank has started is left.

    Args:
        size: number of ranks.
        logs: folder for a file worker-RANK.log each.
        say: is given each line, with the name of its worker.
    """

    def __init__(self, size: int, logs: Path, say: Callable[[str, str], None]) -> None:
        self._size, self._logs, self._say = size, logs, say
        self._ended: queue.SimpleQueue[tuple[int, str, int | None]] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._groups: list[int] = []
        """Process groups that are one rank's own: what it has started ends with it."""
        self._folder = TemporaryDirectory(prefix="fedn-mpi-")
        self._path = Path(self._folder.name) / "ranks.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(size)
        self._doorman = threading.Thread(target=self._accept, name="mpi-ranks", daemon=True)

    def __enter__(self) -> "Ranks":
        self._doorman.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()
        self._listener.close()
        self._folder.cleanup()

    def arguments(self, script: Path, arguments: Sequence[str]) -> list[str]:
        """What mpiexec is called with."""
        rank = [sys.executable, "-m", "fedn.workers.mpi.rank", str(self._path), str(self._size), str(script)]
        return ["-n", str(self._size), *rank, *arguments]

    def _hang_up(self) -> None:
        """mpiexec has ended, and with it all ranks: ends what they left behind, and hears their last words."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._doorman.join()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for reader in self._readers:
            reader.join(_LAST_WORDS_S)

    def outcome(self, launcher_status: int) -> Outcome:
        """How the job ended, once mpiexec has, with this exit status."""
        self._hang_up()
        reports = []
        while not self._ended.empty():
            reports.append(self._ended.get())
        ended = {name: status for _, name, status in sorted(reports, key=lambda report: report[0])}
        failed = next((name for name, status in ended.items() if status), None)
        if failed is None and launcher_status:  # one was killed, and mpiexec has killed the others: all fell silent
            failed = MPIEXEC
        statuses = {name: launcher_status if status is None else status for name, status in ended.items()}
        return Outcome({MPIEXEC: launcher_status, **statuses}, failed)

    def _accept(self) -> None:
        for _ in range(self._size):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # hung up
                return
            reader = threading.Thread(target=self._follow, args=(connection,), daemon=True)
            self._readers.append(reader)
            reader.start()
        self._folder.cleanup()  # nobody else is to come; so a launcher that is killed leaves nothing behind

    def _follow(self, connection: socket.socket) -> None:
        """One rank, from its hello to its end."""
        with connection:
            connection.settimeout(_HELLO_S)
            try:
                hello, files, _, _ = socket.recv_fds(connection, HELLO.size, 1)
                rank = HELLO.unpack(hello)[0]
                output = os.fdopen(files[0], "rb")
            except (OSError, struct.error, IndexError):
                return  # it ended before it said who it is: mpiexec knows
            name = f"worker-{rank}"
            self._note_group(connection)
            with output, (self._logs / f"{name}.log").open("wb") as log:
                follow(name, output, log, self._say)
            try:
                said = connection.recv(STATUS.size)
            except OSError:
                said = b""
            status, at_ns = STATUS.unpack(said) if len(said) == STATUS.size else (None, 0)
            self._ended.put((at_ns, name, status))

    def _note_group(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process = _CREDENTIALS.unpack(credentials)[0]
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process) == process:
                self._groups.append(process)


class MpiJob:
    """The ranks, and the process that has started them."""

    def __init__(self, processes: WorkerProcesses, ranks: Ranks) -> None:
        self._processes, self._ranks = processes, ranks

    def wait(self) -> Outcome:
        """Until all have ended; MPI itself ends the others from the first failure on."""
        return self._ranks.outcome(self._processes.wait().statuses[MPIEXEC])
