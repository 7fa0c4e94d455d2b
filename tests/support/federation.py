"""A whole federation of real processes, started through the command line, whose parts a test may kill and restart."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from fedn import APIClient, FednError
from fedn.models.files import read_tensors, write_tensors
from fedn.protocol.rest import RoundView, SessionView
from tests.support.learners import CountingLearner
from tests.support.servers import free_port

T = TypeVar("T")
WITHIN_S = 120.0
"""Deadline of everything that is waited for: generous, since the machine may be slow and shared."""
LEARNERS = Path(__file__).with_name("learners.py")
SECRETS = {"enrolment": "enrolment-secret-of-the-tests", "admin": "admin-secret-of-the-tests"}


def wait_for(condition: Callable[[], T], what: str, within_s: float = WITHIN_S) -> T:
    """The condition's value once it is true; FednErrors of a tier that is just away count as not yet."""
    deadline, last, never = time.monotonic() + within_s, "", threading.Event()
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except FednError as error:
            last = f" ({error})"
        never.wait(0.05)
    raise AssertionError(f"not within {within_s:g} s: {what}{last}")


class Process:
    """One program, restartable with the same arguments."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name, self._arguments, self.log = name, arguments, folder / f"{name}.log"
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FEDN_", "ALLIANCE_"))}
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-m", "fedn.cli.main", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    @property
    def ended(self) -> bool:
        assert self._running is not None
        return self._running.poll() is not None

    def kill(self) -> None:
        """kill -9 of the program; its own children must notice by themselves."""
        assert self._running is not None
        self._running.kill()
        self._running.wait(30)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self._running is not None
        if self._running.poll() is None:
            self._running.terminate()
        try:
            return self._running.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait(30)
            raise AssertionError(f"{self.name} did not end within {WITHIN_S:g} s of SIGTERM:\n{self.tail()}") from None

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


class Federation:
    """A reducer, combiners c1… and clients client-1…, with the CountingLearner unless told otherwise."""

    def __init__(self, folder: Path, *, combiners: int = 2, clients: int = 5, reducer_flags: list[str] | None = None):
        self.folder = folder
        self.url = f"https://127.0.0.1:{(port := free_port())}"
        self._num_combiners, self._num_clients = combiners, clients
        self.processes: dict[str, Process] = {}
        self._api: APIClient | None = None
        self._join = ""
        self._reducer_arguments = [
            *("reducer", "start", "--data-dir", str(folder / "reducer"), "--bind", "127.0.0.1", "--port", str(port)),
            *("--public-hosts", "127.0.0.1", "--enrolment-secret", SECRETS["enrolment"]),
            *("--admin-secret", SECRETS["admin"], "--log-format", "json", *(reducer_flags or [])),
        ]

    @property
    def api(self) -> APIClient:
        assert self._api is not None
        return self._api

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for process in self.processes.values():
                print(f"--- {process.name}\n{process.tail()}")
        self._end()

    def _start(self) -> None:
        self.processes["reducer"] = Process("reducer", self._reducer_arguments, self.folder)
        ca_file = self.folder / "reducer" / "trust" / "ca.crt"
        found = wait_for(lambda: sorted((self.folder / "reducer").rglob("ca.crt")), f"{ca_file.name} is written")
        self._api = APIClient(self.url, ca=found[0], admin_secret=SECRETS["admin"])
        wait_for(lambda: self.api.status(), "the reducer answers")
        self._join = self.api.join_string(self.url).join
        for number in range(1, self._num_combiners + 1):
            self.add_combiner(f"c{number}")
        wait_for(lambda: sum(c.linked for c in self.api.combiners()) == self._num_combiners, "the combiners are linked")
        for number in range(1, self._num_clients + 1):
            self.add_client(f"client-{number}")
        self.wait_attached(self._num_clients)

    def _end(self) -> None:
        for process in reversed(self.processes.values()):
            process.stop()
        if self._api is not None:
            self._api.close()

    def add_combiner(self, name: str, *flags: str) -> Process:
        arguments = [
            *("combiner", "start", "--join", self._join, "--name", name, "--bind", "127.0.0.1", "--port", "0"),
            *("--public-host", "127.0.0.1", "--data-dir", str(self.folder / name), "--log-format", "json", *flags),
        ]
        self.processes[name] = Process(name, arguments, self.folder)
        return self.processes[name]

    def add_client(self, name: str, *flags: str, learner: type | None = CountingLearner) -> Process:
        """A client with a Learner of its own; without one, it takes the federation's compute package."""
        data = self.data_of(name)
        data.mkdir(parents=True, exist_ok=True)
        arguments = [
            *("client", "start", "--join", self._join, "--name", name, "--data-dir", str(self.folder / name)),
            *("--data-path", str(data), "--log-format", "json", *flags),
        ]
        if learner is not None:
            arguments += ["--learner", f"{LEARNERS}:{learner.__name__}", "--package", "none"]
        self.processes[name] = Process(name, arguments, self.folder)
        return self.processes[name]

    def data_of(self, client: str) -> Path:
        return self.folder / "data" / client

    def trainings(self, client: str) -> list[dict[str, Any]]:
        """What the client's learner was asked to train, in order."""
        log = self.data_of(client) / "trained.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def hold(self, *clients: str, from_round: int = 0) -> None:
        """These clients' trainings of this round and later ones wait until `release`."""
        for client in clients:
            whole = self.data_of(client) / "hold.new"
            whole.write_text(str(from_round))
            whole.rename(self.data_of(client) / "hold")

    def release(self, *clients: str) -> None:
        for client in clients:
            (self.data_of(client) / "hold").unlink(missing_ok=True)

    def listening_port(self, name: str) -> int | None:
        """The port that a program of ours listens on."""
        for connection in psutil.Process(self.processes[name].pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        return None

    # What tests wait for

    def wait_attached(self, count: int) -> None:
        wait_for(lambda: sum(c.attached for c in self.api.clients()) == count, f"{count} clients are attached")

    def seed(self, learner: type[CountingLearner] = CountingLearner) -> str:
        """Uploads a model, of zeros or that of a learner; returns its id."""
        path = self.folder / "seed.safetensors"
        first, second = learner().get_weights()
        write_tensors(path, {"0": first, "1": second})
        return self.api.seed(path).model_id

    def run(self, **plan: Any) -> SessionView:
        """A session from start to end."""
        return self.wait_ended(self.api.start_session(plan).id)

    def wait_ended(self, session: str, within_s: float = WITHIN_S) -> SessionView:
        def ended() -> SessionView | None:
            view = self.api.session(session)
            return view if view.state != "running" else None

        return wait_for(ended, f"session {session} ends", within_s)

    def wait_round(self, session: str, index: int, condition: Callable[[RoundView], bool]) -> RoundView:
        def found() -> RoundView | None:
            view = self.api.round(session, index)
            return view if condition(view) else None

        return wait_for(found, f"round {index} of {session} is as wanted")

    def weights(self, model_id: str) -> dict[str, Any]:
        """The tensors of a global model."""
        target = self.folder / "downloaded.safetensors"
        self.api.download_model(model_id, target)
        return read_tensors(target)
