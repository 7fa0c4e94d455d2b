"""`Sandbox`: a reducer, combiners and clients as child processes on this machine, and a session over them."""

import fcntl
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from fedn.api.client import APIClient
from fedn.api.context import Context, read_context, write_context
from fedn.api.progress import SessionProgress
from fedn.plan.allocator import SERVER
from fedn.plan.plan_file import make_plan
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Conflict, FednError, Unavailable
from fedn.protocol.rest import EventView
from fedn.sandbox.ports import PortClaim
from fedn.sandbox.processes import Program, end_all
from fedn.sandbox.project import Project, data_path

HOST = "127.0.0.1"
READY_WITHIN_S = 120.0
"""Seconds for the programs to start: a cold disk and many clients on few cores take their time."""
_END_WITHIN_S = 10.0
_PROBE_S = 0.1
_WAKE_S = 1.0
"""The main thread wakes up so often, for a signal that the kernel handed to another thread."""


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    clients: int = 5
    combiners: int = 2
    data_dir: Path = Path("fedn-sandbox")
    """Everything is kept here; a second start goes on with its trail."""
    port: int | None = None
    """Of the reducer; None: 8090, or any free one where that is taken."""
    seed: int = 0
    """Of every random choice: the data's split, the plan."""
    tls: bool = True
    """False: plain text between the programs, which all listen at this machine's loopback only."""
    updates: Mapping[str, str] = field(default_factory=dict)
    """Settings of the combiners' update store, `updates.<name>` to its value."""
    cuda_devices: tuple[tuple[int, ...], ...] = ()
    """GPUs of the clients in turn; none: as this process sees them."""


class Sandbox:
    """A federation whose programs live as long as this object is open. To be made and closed in the main thread.

    Use: `with Sandbox(project, options) as sandbox: sandbox.start(); …`
    """

    def __init__(self, project: Project, options: SandboxOptions) -> None:
        self.project = project
        self.options = options
        self.url = ""
        self._programs: list[Program] = []
        self._api: APIClient | None = None
        self._lock: IO[str] | None = None
        self._port: PortClaim | None = None
        self._closing = False
        # A signal raises in the main thread, which waits here. A Queue is Python code: raised between its lines, that
        # can leave its lock held for ever, and who waits for a program's end would wait for the put of its waiter.
        self._happened: queue.SimpleQueue[EventView | Program | FednError] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def api(self) -> APIClient:
        """The reducer, as its admin; after `start`."""
        if self._api is None:
            raise RuntimeError("the sandbox was not started")
        return self._api

    @property
    def programs(self) -> tuple[Program, ...]:
        """What runs: the reducer, combiners, clients, in the order of their start."""
        return tuple(self._programs)

    @property
    def context_file(self) -> Path:
        """The context file (admin.json) that commands find the reducer by."""
        return self.options.data_dir / "admin.json"

    def start(self) -> None:
        """Starts every program, and returns when all clients are attached.

        Raises:
            Conflict: (`data_dir_in_use`) another sandbox runs on the data directory.
            FednError: (`sandbox_program_ended`) a program did not come up; the end of its log is in the message.
            Unavailable: (`sandbox_not_ready`) not all were there in time.
        """
        self._take_data_dir()
        deadline = time.monotonic() + READY_WITHIN_S
        self._start_reducer(deadline)
        self.api.upload_package(self.project.package)
        join = {"FEDN_JOIN": self.api.join_string(self.url).join}
        for number in range(1, self.options.combiners + 1):
            self._start_combiner(f"combiner-{number}", join)
        threading.Thread(target=self._watch_events, name="sandbox events", daemon=True).start()
        # A client that asks for its combiner too early waits for seconds before it asks again.
        self._wait_until(deadline, "combiners", self.options.combiners, lambda: self.api.status().combiners_alive)
        for number in range(1, self.options.clients + 1):
            self._start_client(number, join)
        self._wait_until(deadline, "clients", self.options.clients, lambda: self.api.status().clients_attached)

    def begin_session(self, plan: SessionPlan) -> str:
        """Starts a session; id of it, or of one that was running when the sandbox ended before, which goes on."""
        running = self.api.status().session
        return running or self.api.start_session(plan).id

    def plan(self, *, rounds: int | None = None, deterministic: bool = False) -> SessionPlan:
        """The project's plan, filled in for this sandbox. Seeds the federation where the project has a seed model."""
        content = dict(self.project.plan)
        content.setdefault("seed", self.options.seed)
        content.setdefault("clients_required", self.options.clients // 2 + 1)
        if rounds is not None:
            content["rounds"] = rounds
        if deterministic:
            content["deterministic"] = True
        if self.api.status().trail_length == 0:
            if self.project.seed is not None:
                self.api.seed(self.project.seed)
            else:
                content["seed_from_client"] = True
        return make_plan(content, source=f"of {self.project.folder.name}")

    def follow(self, session: str) -> Iterator[SessionProgress]:
        """The session's progress, again after each event, until it has ended.

        A client or combiner that ends meanwhile is noted; the reducer's end is an error.
        """
        progress = SessionProgress(session, rounds=0)
        progress.start_from(self.api)
        yield progress
        while not progress.done:
            happened = self._next(_WAKE_S)
            if isinstance(happened, Program):
                progress.notes.append(f"{happened.name} has ended ({happened.how_it_ended()}); log: {happened.log}")
            elif happened is None or not progress.apply(happened):
                continue
            elif progress.done:
                progress.start_from(self.api)
            yield progress

    def serve(self) -> None:
        """Returns when the reducer ends; until then, everything goes on."""
        while True:
            self._next(_WAKE_S)

    def close(self) -> None:
        """Ends every program: first clients, then combiners, then the reducer. Harmless when repeated."""
        self._closing = True
        roles = ("client", "combiner", "reducer")
        end_all(
            [[program for program in self._programs if program.name.startswith(role)] for role in roles],
            within_s=_END_WITHIN_S,
        )
        self._programs.clear()
        if self._api is not None:
            self._api.close()
        if self._port is not None:
            self._port.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_data_dir(self) -> None:
        folder = self.options.data_dir
        try:
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("w")
        except OSError as error:
            raise FednError(
                "cannot_write_file",
                f"the data directory cannot be used: {error.strerror}",
                fix="Choose another one with --data-dir.",
                where={"folder": folder},
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                "data_dir_in_use",
                "another sandbox runs on this data directory",
                fix="End it (Ctrl-C there), or choose another directory with --data-dir.",
                where={"folder": folder},
            ) from error

    def _start_reducer(self, deadline: float) -> None:
        self._port = PortClaim(HOST, self.options.port)
        port = self._port.port
        tls = self.options.tls
        self.url = f"{'https' if tls else 'http'}://{HOST}:{port}"
        folder = self.options.data_dir / "reducer"
        secret = read_context(self.context_file).admin_secret if self.context_file.exists() else ""
        secret = secret or secrets.token_urlsafe(32)
        ca_file = folder / "ca.crt" if tls else None
        write_context(self.context_file, Context(self.url, ca_file, secret))
        arguments = [
            "--bind",
            HOST,
            "--port",
            str(port),
            "--public-hosts",
            f"localhost,{HOST}",
            "--public-url",
            self.url,
            "--tls" if tls else "--no-tls",
        ]
        reducer = self._start(
            "reducer",
            ["reducer", "start", *arguments, "--federation", "sandbox", "--data-dir", str(folder)],
            {"FEDN_ALLIANCE_ADMIN_AUTH_TOKEN": secret, **SERVER},
        )
        while not _accepts_connections(port):
            self._check_running(reducer, deadline, "the reducer")
        self._api = APIClient(self.url, ca=ca_file, admin_secret=secret)
        self._api.status()

    def _start_combiner(self, name: str, join: dict[str, str]) -> None:
        arguments = ["--bind", HOST, "--port", "0", "--public-host", HOST, "--data-dir", str(self._folder(name))]
        for setting, value in self.options.updates.items():
            arguments += [f"--updates-{setting.replace('_', '-')}", value]
        self._start(name, ["combiner", "start", "--name", name, *arguments], {**join, **SERVER})

    def _start_client(self, number: int, join: dict[str, str]) -> None:
        options = self.options
        name = f"client-{number}"
        data = data_path(
            self.project.folder, name, number - 1, options.clients, options.seed, self.options.data_dir / "data" / name
        )
        # A fixed place for each client, so that sums come out the same in each run. It may still fail over to another.
        combiner = f"combiner-{(number - 1) % options.combiners + 1}"
        arguments = ["--combiner", combiner, "--data-dir", str(self._folder(name)), "--data-path", str(data.resolve())]
        # One thread each for numerical libraries: many clients share this machine, and sums stay in one order.
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        devices = options.cuda_devices
        gpus = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices[(number - 1) % len(devices)]))} if devices else {}
        self._start(name, ["client", "start", "--name", name, *arguments], {**join, **threads, **gpus, **SERVER})

    def _folder(self, name: str) -> Path:
        return (self.options.data_dir / "sites" / name).resolve()

    def _start(self, name: str, arguments: list[str], environ: dict[str, str]) -> Program:
        program = Program(
            name,
            arguments,
            log=(self.options.data_dir / "logs" / f"{name}.log").resolve(),
            environ=environ,
            on_exit=self._happened.put,
        )
        self._programs.append(program)
        return program

    def _watch_events(self) -> None:
        try:
            for event in self.api.watch():
                self._happened.put(event)
        except FednError as error:
            if not self._closing:
                self._happened.put(error)

    def _wait_until(self, deadline: float, what: str, wanted: int, count: Callable[[], int]) -> None:
        """Every event is a reason to look again; so is a second, for what happened before events were watched."""
        while (there := count()) < wanted:
            if time.monotonic() > deadline:
                raise Unavailable(
                    "sandbox_not_ready",
                    f"only {there} of {wanted} {what} are there after {READY_WITHIN_S:g} s",
                    fix=f"Read the logs in {self.options.data_dir / 'logs'}; fewer clients start faster (--clients).",
                )
            happened = self._next(1.0)
            if isinstance(happened, Program):
                raise happened.as_error()

    def _next(self, timeout_s: float | None) -> EventView | Program | None:
        """What happens next, or None after `timeout_s`. The end of the reducer, or of its event stream, is raised."""
        try:
            happened = self._happened.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(happened, FednError):
            raise happened
        if isinstance(happened, Program) and happened.name == "reducer":
            raise happened.as_error()
        return happened

    def _check_running(self, program: Program, deadline: float, what: str) -> None:
        """Waits a moment. Raises where the program has ended, or the deadline (monotonic seconds) has passed."""
        happened = self._next(_PROBE_S)
        if isinstance(happened, Program):
            raise happened.as_error()
        if time.monotonic() > deadline:
            raise Unavailable(
                "sandbox_not_ready",
                f"{what} did not come up in {READY_WITHIN_S:g} s",
                fix=f"Read its log: {program.log}",
            )


def _accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False
