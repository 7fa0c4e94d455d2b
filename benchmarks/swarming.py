"""A federation of real programs with a swarm instead of clients: started, watched, ended. For `scale` and `soak`."""

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2

from benchmarks.federation import PROJECT, options_of
from benchmarks.noop.workload import make_model
from benchmarks.proc import cpu_s, memory_of
from benchmarks.results import Row
from fedn.models.files import write_tensors
from fedn.network.tls import grpc_channel_credentials
from fedn.sandbox.federation import Sandbox
from fedn.sandbox.project import open_project

_END_WITHIN_S = 60.0
_CHECK = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """A swarm on a federation."""

    clients: int
    params: int
    combiners: int = 1
    processes: int = 2
    options: Mapping[str, str | float] = field(default_factory=dict)
    """More options of `fedn swarm`, by name."""


@contextmanager
def federation(folder: Path, crowd: Crowd, *, sites: int = 0) -> Iterator[Sandbox]:
    """A reducer and combiners with a seed model, and so many clients of the real kind: none unless told."""
    project = folder / "project"
    shutil.copytree(PROJECT, project / "client", ignore=shutil.ignore_patterns("__pycache__"))
    model = make_model(crowd.params)
    write_tensors(project / "seed.safetensors", {f"{index:02d}": array for index, array in enumerate(model)})
    options = options_of(folder / "sandbox", clients=sites, combiners=crowd.combiners, tls=True)
    with Sandbox(open_project(project), options) as sandbox:
        sandbox.start()
        yield sandbox


class SwarmProcess:
    """`fedn swarm --json` as a child process; `latest` is what it said last.

    Raises:
        RuntimeError: from the methods, where it ended by itself.
    """

    def __init__(self, context_file: Path, crowd: Crowd) -> None:
        more = itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in crowd.options.items())
        self._clients = crowd.clients
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fedn.cli.main", "swarm", "--json", "--context", str(context_file)),
                *("--clients", str(crowd.clients), "--processes", str(crowd.processes), "--report-s", "0.5", *more),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.latest: dict[str, Any] = {}
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="swarm", daemon=True)
        self._reader.start()

    @property
    def pids(self) -> list[int]:
        """Of its processes, the one that only watches the others first."""
        return [self._process.pid, *(child.pid for child in psutil.Process(self._process.pid).children())]

    def wait_attached(self, timeout_s: float) -> None:
        """Until all clients are attached. RuntimeError where that takes too long, or the swarm has ended."""
        with self._heard:
            there = self._heard.wait_for(
                lambda: self.latest.get("attached", 0) >= self._clients or self._process.poll() is not None, timeout_s
            )
        if not there or self._process.poll() is not None:
            raise RuntimeError(f"only {self.latest.get('attached', 0)} of {self._clients} clients are attached")

    def end(self) -> Mapping[str, Any]:
        """Ends it; what it has done in all. Harmless when repeated."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        return self.latest

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._heard:
                self.latest = json.loads(line)
                self._heard.notify_all()
        self._process.stdout.close()
        with self._heard:
            self._heard.notify_all()


class Probe:
    """Asks a combiner for its health again and again, and notes how long each answer takes."""

    def __init__(self, host: str, port: int, ca: bytes, *, every_s: float = 0.1) -> None:
        self.answers_s: list[float] = []
        self.failures = 0
        self._every_s = every_s
        self._ending = threading.Event()
        # Of its own: a channel that is shared would answer for another.
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channel = grpc.secure_channel(f"{host}:{port}", grpc_channel_credentials(ca), options=options)
        self._thread = threading.Thread(target=self._ask, name="probe", daemon=True)
        self._thread.start()

    def take(self) -> list[float]:
        """Seconds of each answer since the last call."""
        taken, self.answers_s = self.answers_s, []
        return taken

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._channel.close()

    def _ask(self) -> None:
        check = self._channel.unary_unary(
            _CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while not self._ending.wait(self._every_s):
            begun = time.monotonic()
            try:
                check(health_pb2.HealthCheckRequest(), timeout=30.0)
            except grpc.RpcError:
                self.failures += 1
            else:
                self.answers_s.append(time.monotonic() - begun)


@contextmanager
def probes(sandbox: Sandbox) -> Iterator[list[Probe]]:
    """One for each combiner."""
    ca = (sandbox.options.data_dir / "reducer" / "ca.crt").read_bytes()
    with contextlib.ExitStack() as stack:
        made = [Probe(view.host, view.port, ca) for view in sandbox.api.combiners()]
        for probe in made:
            stack.callback(probe.close)
        yield made


def pids_of(sandbox: Sandbox) -> dict[str, list[int]]:
    """The programs' processes by kind: reducer, combiners."""
    found: dict[str, list[int]] = {"reducer": [], "combiners": []}
    for program in sandbox.programs:
        found["reducer" if program.name == "reducer" else "combiners"].append(program.pid)
    return found


def cpu_of(pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Processor seconds so far, by kind."""
    return {kind: sum(cpu_s(pid) for pid in each) for kind, each in pids.items()}


def memory_mb(pids: Sequence[int]) -> Row:
    """Of the largest of these processes: now, and the most since it started."""
    each = [memory_of(pid) for pid in pids]
    return {"now": max(one.now for one in each) / 2**20, "peak": max(one.peak for one in each) / 2**20}
