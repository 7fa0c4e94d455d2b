"""`python -m fedn.workers.mpi.rank SOCKET SIZE SCRIPT [ARGUMENTS]`: a script as one rank of an MPI job.

mpiexec starts it, for `fedn.workers.mpi.job`. A rank connects to the launcher's socket, hands over the end of a pipe
that its output goes to, and says how the script ended. One that fails aborts the job at once: it could not end by
itself, as the end of MPI waits for all ranks.
"""

import os
import socket
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from fedn.protocol.errors import FednError, InvalidInput, Unavailable
from fedn.workers.backends.mpi import load_mpi
from fedn.workers.scripts import Script

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

HELLO = struct.Struct("<I")
"""The rank. With it comes the end of the pipe that has the rank's output."""
STATUS = struct.Struct("<BQ")
"""How the script ended, and when, on this machine's monotonic clock in ns: others fail at once, as they lose it."""


def main(arguments: list[str]) -> None:
    path, size, script, *own = arguments
    try:
        world = _world(int(size))
        launcher = _report_to(Path(path), world.Get_rank())
    except FednError as error:
        sys.exit(str(error))
    status = _run(Path(script), own)
    launcher.sendall(STATUS.pack(status, time.monotonic_ns()))
    if status:
        world.Abort(status)


def _world(size: int) -> "Intracomm":
    """All ranks. InvalidInput: `mpi_missing`, `mpi_mismatch`."""
    world: Intracomm = load_mpi().COMM_WORLD
    if world.Get_size() != size:
        raise InvalidInput(
            "mpi_mismatch",
            f"mpiexec has started {size} processes, and the MPI library of mpi4py sees {world.Get_size()}: they are "
            "not of the same MPI",
            fix="Put the mpiexec of that library first on the path, or install the package mpich of PyPI with mpi4py.",
        )
    return world


def _report_to(path: Path, rank: int) -> socket.socket:
    """The connection to the launcher, which has this process' output from now on. Unavailable: `launcher_lost`."""
    launcher = socket.socket(socket.AF_UNIX)
    output, mine = os.pipe()
    try:
        launcher.connect(str(path))
        socket.send_fds(launcher, [HELLO.pack(rank)], [output])
    except OSError as error:
        launcher.close()
        raise Unavailable(
            "launcher_lost",
            f"fedn worker run cannot be reached from here: {error}",
            fix="It launches on its own machine; over several: FEDN_WORKER_BACKEND=mpi mpiexec … python SCRIPT.",
            where={"worker": rank},
        ) from error
    os.close(output)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(mine, stream.fileno())
    os.close(mine)
    return launcher


def _run(path: Path, arguments: list[str]) -> int:
    """The script's exit status, as Python itself would have it."""
    try:
        Script(path, arguments).run()
    except SystemExit as end:
        return _status(end.code)
    except BaseException:  # noqa: BLE001 - the boundary to the user's code: what it raised is shown, as Python would
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _status(code: str | int | None) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    main(sys.argv[1:])
