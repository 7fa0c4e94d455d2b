"""`fedn worker run`: launches the workers of a script over a back end."""

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from fedn.api.client import APIClient
from fedn.cli.connection import connect
from fedn.cli.failures import Status

if TYPE_CHECKING:
    from fedn.workers.launching import Outcome

_PATIENCE_S = 60.0
_DATA_DIR = Path("fedn-data/workers")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run is asked for."""

    script: Path
    arguments: tuple[str, ...]
    count: int
    backend: str
    group: str | None
    join: str | None
    context: Path | None
    name_base: str | None
    data_dir: Path | None
    first_rank: int | None
    combiner: str | None

    def check(self) -> None:
        """Refuses options that would do nothing. click.UsageError."""
        of_federation = ("group", "join", "context", "name_base", "data_dir", "first_rank", "combiner")
        given = [name for name in of_federation if getattr(self, name) is not None]
        if given and self.backend.lower() != "grpc":
            raise click.UsageError(f"--{given[0].replace('_', '-')} is about a federation: it needs --backend grpc.")
        if self.first_rank is not None and self.group is None:
            raise click.UsageError("--first-rank is about a group of others too: it needs --group.")

    @property
    def python(self) -> list[str]:
        """The script as a process that does not outlive this one."""
        return launched(sys.executable, str(self.script), *self.arguments)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("-n", "--workers", "count", type=click.IntRange(1, 4096), required=True, help="Workers to run here.")
@click.option(
    "--backend", default="local", help="in-process, local, grpc, mpi, or one that a package adds.  [default: local]"
)
@click.option("--topology", help="Name of what launched_topology() gives to the script.")
@click.option(
    "--topology-option",
    "topology_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of the topology. May be given several times.",
)
@click.option("--logs", type=click.Path(path_type=Path), default=Path("worker-logs"), help="[default: worker-logs]")
@click.option("--group", help="With grpc: the worker group.  [default: one of this run, which the admin makes]")
@click.option("--join", help="With grpc: join string.  [default: made by the admin whom a context file names]")
@click.option(
    "--context",
    type=click.Path(path_type=Path),
    help="With grpc: file that says how to reach the reducer as its admin (admin.json).",
)
@click.option("--name-base", help="With grpc: the workers are the clients NAME_BASE-0, …  [default: worker-HOST]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="With grpc: keys of these clients.  [default: fedn-data/workers]",
)
@click.option(
    "--first-rank", type=click.IntRange(min=0), help="With --group: of the first worker here.  [default: a free one]"
)
@click.option("--combiner", help="With grpc: where to attach.  [default: where the group meets]")
@click.pass_context
def run(
    called: click.Context,
    /,
    topology: str | None,
    topology_options: tuple[str, ...],
    logs: Path,
    **given: Any,
) -> None:
    """Run N workers of a Python script, and end when all have ended.

    \b
    On this machine:                   fedn worker run ring.py -n 4 --topology symmetric
    As an MPI job of this machine:     fedn worker run ring.py -n 4 --backend mpi
    Over a federation, all of them:    fedn worker run ring.py -n 4 --backend grpc
    Over a federation, some of them:   fedn worker run ring.py -n 2 --backend grpc --group ring --join fedn1.…

    In the script, `WorkerManager()` or `FedML_init()` finds its connection, rank and size. Each worker's output goes
    to LOGS/worker-RANK.log, and to the terminal behind its rank. The first worker that fails ends the others, and
    its exit status is the command's. Options of this command stand before the script's name or behind it; what follows
    `--` is the script's own.
    """
    from fedn.workers.topology.named import make_topology, topology_variable  # heavy: only a start needs it

    asked = RunOptions(**given)
    asked.check()
    chosen = dict(map(_option, topology_options))
    variables: Mapping[str, str] = {}
    if topology is not None:
        variables = topology_variable(topology, chosen)
        if asked.group is None:  # else only the group knows how many there are
            make_topology(topology, asked.count, chosen)
    elif chosen:
        raise click.UsageError("--topology-option says something of no topology: give --topology too.")
    launch = LAUNCHERS.get(asked.backend.lower(), _launch_other)
    with _interrupted_by(signal.SIGTERM), launch(asked, variables, logs) as workers:
        outcome = workers.wait()
    called.exit(_status(outcome, logs))


class Workers(Protocol):
    """Workers that run."""

    def wait(self) -> "Outcome":
        """Until all have ended."""


@contextlib.contextmanager
def _launch_threads(asked: RunOptions, variables: Mapping[str, str], logs: Path) -> Iterator[Workers]:
    from fedn.workers.launching import Command, WorkerProcesses

    program = [sys.executable, "-m", "fedn.workers.threads", str(asked.count), str(asked.script), *asked.arguments]
    with WorkerProcesses([Command("workers", launched(*program), variables)], logs, _say) as processes:
        yield processes


@contextlib.contextmanager
def _launch_relayed(asked: RunOptions, variables: Mapping[str, str], logs: Path) -> Iterator[Workers]:
    from fedn.network.join import JoinString
    from fedn.workers.backends.attach import BACKEND
    from fedn.workers.launching import Command, WorkerProcesses
    from fedn.workers.relay.enlisting import enlist

    with contextlib.ExitStack() as stack:
        group, join = asked.group, asked.join
        name_base = asked.name_base or f"worker-{socket.gethostname()}"[:48]
        if group is None or join is None:
            api = stack.enter_context(connect(url=None, token=None, admin_secret=None, ca=None, context=asked.context))
            join = join or api.join_string().join
            group = group or stack.enter_context(_own_group(api, asked.count, name_base))
        enlisted = enlist(
            asked.count,
            group,
            JoinString.parse(join),
            name_base=name_base,
            data_dir=asked.data_dir or _DATA_DIR,
            first_rank=0 if asked.group is None else asked.first_rank,
            combiner=asked.combiner or "",
            patience_s=_PATIENCE_S,
        )
        commands = [
            Command(f"worker-{one.rank}", asked.python, {**variables, **one.start.environment, BACKEND: "grpc"})
            for one in enlisted
        ]
        yield stack.enter_context(WorkerProcesses(commands, logs, _say))


@contextlib.contextmanager
def _launch_mpi(asked: RunOptions, variables: Mapping[str, str], logs: Path) -> Iterator[Workers]:
    from fedn.workers.backends.attach import BACKEND
    from fedn.workers.launching import Command, WorkerProcesses
    from fedn.workers.mpi.job import MPIEXEC, MpiJob, Ranks, find_mpiexec

    mpiexec = find_mpiexec()
    with Ranks(asked.count, logs, _say) as ranks:
        program = launched(mpiexec, *ranks.arguments(asked.script, asked.arguments))
        with WorkerProcesses([Command(MPIEXEC, program, {**variables, BACKEND: "mpi"})], logs, _say) as processes:
            yield MpiJob(processes, ranks)


@contextlib.contextmanager
def _launch_other(asked: RunOptions, variables: Mapping[str, str], logs: Path) -> Iterator[Workers]:
    """Over a back end that says itself what to start its workers with."""
    from fedn.workers.backends import load_backend
    from fedn.workers.backends.attach import BACKEND
    from fedn.workers.launching import Command, WorkerProcesses

    with load_backend(asked.backend).start(asked.count) as starts:
        commands = [
            Command(
                f"worker-{rank}",
                asked.python,
                {**variables, **start.environment, BACKEND: asked.backend},
                start.pass_fds,
            )
            for rank, start in enumerate(starts)
        ]
        with WorkerProcesses(commands, logs, _say) as processes:
            yield processes


Launch = Callable[[RunOptions, Mapping[str, str], Path], contextlib.AbstractContextManager[Workers]]
"""Of what is asked for, the workers' variables, and the folder for their logs."""

LAUNCHERS: Mapping[str, Launch] = {"in-process": _launch_threads, "grpc": _launch_relayed, "mpi": _launch_mpi}
"""Back ends whose workers are started in a way of their own."""


@contextlib.contextmanager
def _own_group(api: APIClient, size: int, name_base: str) -> Iterator[str]:
    name = f"run-{secrets.token_hex(4)}"
    api.create_worker_group(name, size, [f"{name_base}-*"])
    try:
        yield name
    finally:
        api.delete_worker_group(name)


@contextlib.contextmanager
def _interrupted_by(number: signal.Signals) -> Iterator[None]:
    """The signal ends the block as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


def launched(*program: str) -> list[str]:
    """The program with its arguments, which ends when this process ends in whatever way."""
    return [sys.executable, "-m", "fedn.sandbox.launch", str(os.getpid()), *program]


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _say(name: str, line: str) -> None:
    click.echo(f"[{name.removeprefix('worker-')}] {line}")


def _status(outcome: "Outcome", logs: Path) -> int:
    failed = outcome.first_failure
    if failed is None:
        return Status.OK
    status = outcome.statuses[failed]
    how = f"the signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    click.echo(f"{failed} has ended with {how}, and so have the others. See {logs / failed}.log.", err=True)
    return 128 - status if status < 0 else status
