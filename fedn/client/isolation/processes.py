"""Places that are subprocesses of the client, with its user's rights: limits of time, memory and output, no more."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from fedn.client.calls import TaskCall
from fedn.client.command import CODE_LOG, LAST_WORDS_S, Limits, clean_environment, ending, run_command
from fedn.client.isolation.places import Ending, Needs
from fedn.client.output import Output
from fedn.client.python_env import make_environment
from fedn.client.worker_channel import AgentEnd
from fedn.plan.allocator import LARGE_BUFFERS
from fedn.protocol.errors import TaskFailed


class ProcessIsolation:
    """See `fedn.client.isolation.places.Isolation`.

    Args:
        environments: folder for the Python environments that packages ask for.
        memory_bytes: address space of a process; None: no limit.
    """

    def __init__(self, environments: Path, memory_bytes: int | None) -> None:
        self._environments = environments
        self._memory_bytes = memory_bytes

    async def start(self) -> str:
        return "packages run as processes of this user: they may do what this user may"

    async def place(self, needs: Needs) -> "ProcessPlace":
        python = Path(sys.executable)
        if needs.requirements is not None:
            python = await make_environment(needs.requirements, self._environments)
        return ProcessPlace(python, self._memory_bytes)

    async def close(self) -> None:
        """Nothing is open."""


class ProcessPlace:
    """See `fedn.client.isolation.places.Place`.

    Args:
        python: the interpreter of workers, and the one that commands find as `python3`.
        memory_bytes: address space of a worker; None: no limit.
    """

    def __init__(self, python: Path, memory_bytes: int | None) -> None:
        self._python = python
        self._memory_bytes = memory_bytes

    @property
    def address_space_bytes(self) -> int | None:
        return self._memory_bytes

    async def start_worker(self, folder: Path | None, output_bytes: int) -> "Subprocess":
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    self._python,
                    "-P",  # a module of the site's folder must not stand in for one that the worker itself needs
                    "-m",
                    "fedn.client.worker",
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    cwd=folder,
                    env=clean_environment(LARGE_BUFFERS, self._python),
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise TaskFailed(
                    "worker_not_started",
                    f"the worker process cannot be started: {error}",
                    where={"python": self._python},
                ) from error
        return Subprocess(process, await AgentEnd.open(ours), Output(CODE_LOG, output_bytes))

    async def run_command(
        self,
        what: str,
        argv: list[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        limits: Limits,
        task_folder: Path | None = None,
    ) -> None:
        environment = clean_environment(environment, self._python)
        await run_command(what, argv, folder=folder, environment=environment, limits=limits)

    def hand_over(self, folder: Path) -> None:
        """It is this user's already."""

    def explained(self, error: TaskFailed) -> TaskFailed:
        return error


class Subprocess:
    """A worker; see `fedn.client.isolation.places.WorkerProcess`."""

    def __init__(self, process: asyncio.subprocess.Process, channel: AgentEnd, output: Output) -> None:
        self._process = process
        self.channel = channel
        self.output = output
        assert process.stdout is not None
        self._reading = asyncio.create_task(output.read(process.stdout))

    async def lend(self, call: TaskCall) -> TaskCall:
        return call

    async def take_back(self, call: TaskCall, size_bytes: int) -> None:
        if call.result is not None:
            call.result.refresh()  # the worker may have made it longer

    def kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    async def end(self) -> Ending:
        self.kill()
        code = await self._process.wait()
        # A daemon that left the group may hold the output open: what it says is not waited for.
        await asyncio.wait({self._reading}, timeout=LAST_WORDS_S)
        self._reading.cancel()
        await self.channel.close()
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return Ending("worker_died", ending(128 - code if code < 0 else code) + hint)
