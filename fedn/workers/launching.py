"""Runs the processes of a group of workers: their output to log files and to the terminal, and one end for all.

The first that fails ends the others; whoever launches may end all. Which back end they speak over is not known here.
"""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from fedn.protocol.errors import FednError

_END_S = 5.0
"""What does not end so soon after SIGTERM is killed."""


@dataclass(frozen=True)
class Command:
    """One process to start."""

    name: str
    """Of its log file, and before its lines on the terminal."""
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside this process' own."""
    pass_fds: Sequence[int] = ()


@dataclass(frozen=True)
class Outcome:
    """How the run ended."""

    statuses: Mapping[str, int]
    """Name to exit status; negative: the signal that ended it."""
    first_failure: str | None
    """The process that failed before any other did, or was ended for that."""


class WorkerProcesses:
    """The processes of one run. A context manager: at its end none is left.

    Args:
        commands: of the processes, each with a name of its own.
        logs: folder for a file NAME.log each, written anew.
        say: is given each line, with the name of its process.
    """

    def __init__(self, commands: Sequence[Command], logs: Path, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []
        logs.mkdir(parents=True, exist_ok=True)
        try:
            for command in commands:
                self._start(command, logs / f"{command.name}.log")
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> "WorkerProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait(self) -> Outcome:
        """Until all have ended; from the first failure on, those that are left are ended."""
        first_failure: str | None = None
        for _ in self._processes:
            name = self._ended.get()
            if self._processes[name].returncode and first_failure is None:
                first_failure = name
                self.end()
        for reader in self._readers:
            reader.join()
        statuses = {name: process.returncode for name, process in self._processes.items()}
        return Outcome(statuses, first_failure)

    def end(self) -> None:
        """Ends all that run, by SIGTERM and then by SIGKILL."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + _END_S
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        self._signal(signal.SIGKILL)
        for process in self._processes.values():
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                # Its own group: what a worker has started ends with it.
                os.killpg(process.pid, number)

    def _start(self, command: Command, log: Path) -> None:
        try:
            process = subprocess.Popen(
                command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.environment, "PYTHONUNBUFFERED": "1"},
                pass_fds=command.pass_fds,
                start_new_session=True,
            )
        except OSError as error:
            raise FednError(
                "worker_not_launched", f"a worker cannot be started: {error}", where={"worker": command.name}
            ) from error
        self._processes[command.name] = process
        reader = threading.Thread(target=self._follow, args=(command.name, process, log.open("wb")), daemon=True)
        self._readers.append(reader)
        reader.start()

    def _follow(self, name: str, process: subprocess.Popen[bytes], log: BinaryIO) -> None:
        assert process.stdout is not None
        with log, process.stdout as output:
            follow(name, output, log, self._say)
        process.wait()
        self._ended.put(name)


def follow(name: str, output: IO[bytes], log: BinaryIO, say: Callable[[str, str], None]) -> None:
    """Hands on what a worker writes, line by line as it comes, until it closes its output."""
    for line in output:
        log.write(line)
        log.flush()
        say(name, line.decode("utf-8", "replace").rstrip("\n"))
