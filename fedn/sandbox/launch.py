"""How the programs are started: with an allocator for big buffers, and never outliving who started them.

`python -m fedn.sandbox.launch PARENT PROGRAM ARGUMENT…` becomes the program, which gets SIGTERM when the process PARENT
ends in whatever way.
"""

import ctypes
import os
import signal
import sys

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "4",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Environment of servers: a fresh page costs several times what a used one does, so glibc keeps freed buffers."""

_PR_SET_PDEATHSIG = 1


def restart_with_allocator() -> None:
    """Replaces this `fedn` process by the same command with the allocator set.

    Returns where the environment sets it already, or the C library is not glibc on Linux.
    """
    if sys.platform != "linux" or any(name in os.environ for name in ALLOCATOR):
        return
    command = [sys.executable, "-m", "fedn.cli.main", *sys.argv[1:]]
    os.execve(sys.executable, command, {**os.environ, **ALLOCATOR})  # noqa: S606 (the same program, no shell)


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("whoever started this program is gone already")
    os.execv(command[0], command)  # noqa: S606 (no shell)


if __name__ == "__main__":
    main()
