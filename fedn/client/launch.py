"""Starts one command of a compute package under limits, and ends all of it: a script that imports nothing of fedn.

`launch.py PARENT_PID MEMORY_BYTES COMMAND…` runs the command in a session of its own. When the command ends, is told to
end (SIGTERM), or the agent that started this dies, nothing of the command's process group is left. Ends with the
command's status, or 128 + the number of the signal that killed it.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_NOT_STARTED = 127


def main(arguments: list[str]) -> int:
    parent, memory_bytes, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Until the child is known, SIGTERM waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return _NOT_STARTED  # the agent died before its death could be noticed
    child = os.fork()
    if child == 0:
        _become(command, memory_bytes)

    def end(signum: int, frame: object) -> None:
        _kill(os.killpg, child)
        _kill(os.kill, child)  # the group is there only after the child's setsid

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _, status = os.waitpid(child, 0)
    _kill(os.killpg, child)  # what the command left running in its group
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(command: list[str], memory_bytes: int) -> None:
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)
    except (OSError, ValueError) as error:
        print(f"{command[0]} cannot be started: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(_NOT_STARTED)


def _kill(kill: Callable[[int, int], None], child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        kill(child, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
