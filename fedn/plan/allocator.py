"""How the C library gives out memory in programs that move models: by its environment, so before they start.

A page that is touched for the first time costs several times what a used one does. So buffers that are freed stay with
the process, and large ones lie in huge pages.
"""

import ctypes
import os
import sys
from collections.abc import Mapping

LARGE_BUFFERS = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Environment of any process that handles models."""

SERVER = {**LARGE_BUFFERS, "MALLOC_ARENA_MAX": "2"}
"""And of those whose threads mostly wait: each arena keeps freed memory of its own."""


def restart_with_allocator() -> None:
    """Replaces this `fedn` process by the same command with all of SERVER in its environment.

    What the environment says already stays. Returns where nothing is missing, or the system is not Linux.
    """
    if sys.platform != "linux" or SERVER.keys() <= os.environ.keys():
        return
    command = [sys.executable, "-m", "fedn.cli.main", *sys.argv[1:]]
    os.execve(sys.executable, command, {**SERVER, **os.environ})  # noqa: S606 (the same program, no shell)


def without_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what `restart_with_allocator` put there: for processes that run other people's code."""
    return {name: value for name, value in environment.items() if SERVER.get(name) != value}


def return_freed_memory() -> None:
    """Gives what was freed back to the system, also from within the heap; where the C library is glibc.

    For moments when gigabytes were freed: memory of one thread's arena does not serve the threads of another.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
