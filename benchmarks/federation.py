"""One no-op session over the real programs of a sandbox, and what it cost."""

import itertools
import shutil
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.noop.workload import make_model, max_error
from benchmarks.proc import MIB, Memory, cpu_s, memory_of
from benchmarks.results import Row
from fedn.models.files import read_tensors, write_tensors
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import open_project

PROJECT = Path(__file__).resolve().parent / "noop"
_KINDS = {"reducer": "reducer", "combiner": "combiners", "client": "clients"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is run."""

    params: int
    clients: int
    combiners: int = 1
    rounds: int = 10
    """At least 2: the first one is told apart."""
    tls: bool = True
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the session's plan beside those that make the workload."""


def run_session(cell: Cell, *, timeout_s: float) -> Row:
    """Runs one session and measures it.

    A round lasts from its predecessor's commit to its own, so everything counts: the choice of the cohort, dispatch,
    transfers, checks, the sum, the durable commit.

    Returns:
        The row of results, times in seconds, memory in MiB.

    Raises:
        RuntimeError: the session did not finish.
        FednError: the federation did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="fedn-bench-") as name:
        folder = Path(name)
        _make_project(folder / "project", cell.params)
        options = SandboxOptions(
            clients=cell.clients, combiners=cell.combiners, data_dir=folder / "sandbox", tls=cell.tls
        )
        with Sandbox(open_project(folder / "project"), options) as sandbox:
            sandbox.start()
            plan = _plan(sandbox, cell, timeout_s)
            session = sandbox.api.start_session(plan).id
            begun: Usage | None = None
            warm = 0
            for progress in sandbox.follow(session):
                if begun is None and progress.rounds_done:
                    begun, warm = Usage.of(sandbox), progress.rounds_done
            view = sandbox.api.session(session)
            if view.state != "finished" or begun is None:
                raise RuntimeError(
                    f"the session {view.state}: {view.error.message if view.error else 'no reason told'}"
                )
            used = Usage.of(sandbox)
            rounds = sorted(sandbox.api.rounds(session), key=lambda one: one.index)
            memory = {program.name: memory_of(program.pid) for program in sandbox.programs}
            sandbox.api.download_model(view.model_id, folder / "final.safetensors")
        tensors = read_tensors(folder / "final.safetensors")
    row = {**_times(rounds), **_memory(memory), "cpu_s": used.each_round(begun, cell.rounds - warm)}
    row["max_err"] = max_error([tensors[key] for key in sorted(tensors)], cell.clients, cell.rounds)
    return _head(cell) | row


@dataclass(frozen=True)
class Usage:
    """Processor seconds so far, by kind of program."""

    seconds: Mapping[str, float]

    @classmethod
    def of(cls, sandbox: Sandbox) -> "Usage":
        """Now, of the sandbox's programs, the clients' workers, and this process, which watches the session."""
        seconds = dict.fromkeys((*_KINDS.values(), "workers", "watcher"), 0.0)
        kinds = {program.pid: _KINDS[program.name.partition("-")[0]] for program in sandbox.programs}
        for process in psutil.process_iter(["ppid"]):
            if process.pid in kinds:
                seconds[kinds[process.pid]] += cpu_s(process.pid)
            elif kinds.get(process.info["ppid"]) == "clients":
                seconds["workers"] += cpu_s(process.pid)
        seconds["watcher"] = cpu_s()
        return cls(seconds)

    def each_round(self, before: "Usage", rounds: int) -> dict[str, float] | None:
        """Processor seconds a round since `before`; None where no round lies between."""
        if rounds < 1:
            return None
        return {kind: (after - before.seconds[kind]) / rounds for kind, after in self.seconds.items()}


def _make_project(folder: Path, params: int) -> None:
    shutil.copytree(PROJECT, folder / "client", ignore=shutil.ignore_patterns("__pycache__"))
    model = make_model(params)
    write_tensors(folder / "seed.safetensors", {f"{index:02d}": array for index, array in enumerate(model)})


def _plan(sandbox: Sandbox, cell: Cell, timeout_s: float) -> SessionPlan:
    content = sandbox.plan(rounds=cell.rounds).model_dump(by_alias=True)
    content |= {"validate": False, "clients_required": cell.clients, "round_timeout_s": timeout_s}
    return SessionPlan.model_validate(content | dict(cell.plan))


def _head(cell: Cell) -> Row:
    head: Row = {
        "bench": "rounds",
        "system": "fedn",
        "params": cell.params,
        "clients": cell.clients,
        "combiners": cell.combiners,
        "tls": cell.tls,
        "rounds": cell.rounds,
    }
    return head | {"plan": dict(cell.plan)} if cell.plan else head


def _times(rounds: list[RoundView]) -> Row:
    ends = [one.ended_at or 0.0 for one in rounds]
    lengths = [after - before for before, after in itertools.pairwise(ends)]
    first_s = ends[0] - rounds[0].started_at
    parts = {name for one in rounds[1:] for name in one.times_ms}
    times_ms = {
        name: statistics.median(one.times_ms[name] for one in rounds[1:] if name in one.times_ms)
        for name in sorted(parts)
    }
    return {
        "round_s": statistics.median(lengths),
        "p90_s": sorted(lengths)[int(len(lengths) * 0.9)],
        "first_s": first_s,
        "agg_s": times_ms.get("aggregation", 0.0) / 1e3,
        "times_ms": times_ms,
        "all_rounds": [first_s, *lengths],
    }


def _memory(memory: Mapping[str, Memory]) -> Row:
    """`server_rss_mb` is what the limits are about: the largest combiner at its peak."""
    combiners = [one for name, one in memory.items() if name.startswith("combiner")]
    return {
        "server_rss_mb": max(one.peak for one in combiners) / MIB,
        "combiner_rss_now_mb": max(one.now for one in combiners) / MIB,
        "reducer_rss_mb": memory["reducer"].peak / MIB,
        "reducer_rss_now_mb": memory["reducer"].now / MIB,
        "client_rss_mb": max(one.peak for name, one in memory.items() if name.startswith("client")) / MIB,
    }
