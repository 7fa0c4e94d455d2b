"""The first process of a container: runs one command there and tells the agent how it ended. Imports nothing of fedn.

`guard.py SOCKET COMMAND…` connects to the agent's socket, once for each stream: the lifeline; one for all that is
printed; and one where the command's words have `{channel}`, which becomes the number of that descriptor. When the
command ends, a line of JSON goes up the lifeline: {"status": its exit status or 128 + signal, "oom": whether anything
was killed for want of memory}. When the agent lets the lifeline go, or dies, the guard ends, and with it, by the
kernel, every process of the container.
"""

import ctypes
import json
import os
import re
import select
import signal
import socket
import sys
from typing import NoReturn

_PR_SET_DUMPABLE = 4
_NOT_STARTED = 127
_CHANNEL = "{channel}"
_HUNG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""Of control groups version 2 and 1."""


def main(arguments: list[str]) -> int:
    path, command = arguments[0], arguments[1:]
    _set_dumpable(False)  # the command has this user's rights: it must not trace us
    lifeline = _connect(path)
    output = _connect(path)
    channel = _connect(path) if _CHANNEL in command else None
    killed_before = _oom_kills()
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # a handler, so that it wakes
    child = os.fork()
    if child == 0:
        _become(command, output, channel)
    output.close()
    if channel is not None:
        channel.close()
    status = _status_of(child, lifeline, woken)
    if status is not None:
        report = {"status": status, "oom": _oom_kills() > killed_before}
        lifeline.sendall(json.dumps(report).encode() + b"\n")
    return 0


def _connect(path: str) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(path)
    return connected


def _become(command: list[str], output: socket.socket, channel: socket.socket | None) -> NoReturn:
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.setsid()
        _set_dumpable(True)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")  # the command goes before the guard, who tells of it
        if channel is not None:
            channel.set_inheritable(True)
            command = [str(channel.fileno()) if word == _CHANNEL else word for word in command]
        os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)
    except (OSError, ValueError) as error:
        os.write(2, f"{command[0]} cannot be started: {error}\n".encode())
    finally:
        os._exit(_NOT_STARTED)


def _set_dumpable(may_be_looked_into: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, int(may_be_looked_into), 0, 0, 0)


def _status_of(child: int, lifeline: socket.socket, woken: int) -> int | None:
    """Waits for the command, and takes in orphans; None where the agent has gone first."""
    poll = select.poll()
    poll.register(lifeline, _HUNG_UP)
    poll.register(woken, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if lifeline.fileno() in ready:
            return None
        os.read(woken, 4096)
        while (ended := _ended_child()) is not None:
            pid, status = ended
            if pid == child:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _ended_child() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _oom_kills() -> int:
    """How many processes of this container the kernel has killed for want of memory."""
    for path in _OOM_FILES:
        try:
            with open(path, encoding="ascii") as file:
                found = re.search(r"^oom_kill (\d+)$", file.read(), re.MULTILINE)
        except OSError:
            continue
        if found is not None:
            return int(found[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
