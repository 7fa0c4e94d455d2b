"""What a place can do in which code runs: commands to their end, and the worker process of a Learner."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedn.client.calls import TaskCall
from fedn.client.command import Limits
from fedn.client.output import Output
from fedn.client.worker_channel import AgentEnd
from fedn.protocol.errors import TaskFailed


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a compute package asks of the place that it runs in."""

    root: Path
    """Its outermost folder: the code may read it."""
    work_dir: Path
    """Where the code may write what lasts from task to task."""
    requirements: Path | None = None
    """File with the Python packages that it needs (`python_env`)."""
    learner: bool = False
    """Whether it has a Learner, which runs within fedn's own worker."""


@dataclass(frozen=True)
class Ending:
    """How a process ended, for people."""

    code: str
    """`worker_died` or `out_of_memory`."""
    text: str
    """What follows `the worker process`."""


class WorkerProcess(Protocol):
    """`python -m fedn.client.worker`, running."""

    @property
    def channel(self) -> AgentEnd: ...

    @property
    def output(self) -> Output: ...

    async def lend(self, call: TaskCall) -> TaskCall:
        """The same call with the files as the worker sees them. LimitExceeded (`disk_full` …) where they do not fit."""

    async def take_back(self, call: TaskCall, size_bytes: int) -> None:
        """Puts a large result into `call.result`. LimitExceeded, TaskFailed (`bad_result`: it is not there)."""

    def kill(self) -> None:
        """Ends it at once; the channel tells."""

    async def end(self) -> Ending:
        """Kills it, with every process that it started, and takes in its last words."""


class Place(Protocol):
    """Where the code of one compute package, or the site's own Learner, runs."""

    @property
    def address_space_bytes(self) -> int | None:
        """What a worker has to limit itself to; None where nothing, or the place itself does it."""

    async def start_worker(self, folder: Path | None, output_bytes: int) -> WorkerProcess:
        """Starts a worker in a folder (None: the agent's). TaskFailed (`worker_not_started` …)."""

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
        """Runs a command; returns when it ended with status 0, and leaves no process behind.

        Args:
            what: how messages call it.
            argv: the words of the command; no shell reads them.
            folder: its working directory.
            environment: what it is told, beside what the place has of its own.
            limits: of the command.
            task_folder: where it writes what it makes; see `hand_over`.

        Raises:
            TaskFailed: `step_failed` (status, and the last that it printed), `task_timeout`, `step_not_started`,
                `out_of_memory`.
        """

    def hand_over(self, folder: Path) -> None:
        """Lets the code write to a folder of ours. OSError."""

    def explained(self, error: TaskFailed) -> TaskFailed:
        """The error, with what the place has to do with it."""


class Isolation(Protocol):
    """All the places of one client."""

    async def start(self) -> str:
        """Looks whether code could be run at all, and ends what an earlier client left running.

        Returns:
            What was found, in words.

        Raises:
            TaskFailed: what is missing.
        """

    async def place(self, needs: Needs) -> Place:
        """The place for a package. TaskFailed where it cannot have what it needs (`environment_failed` …)."""

    async def close(self) -> None:
        """Lets go what it holds open; its workers were ended before."""
