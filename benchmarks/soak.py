"""A federation that trains for an hour: does anything grow that should not?

A reducer, two combiners, some real clients, and a light swarm whose clients fail, leave, vanish and come back. Sessions
run one after another, some of them are stopped on the way. Memory, threads, open files, files without a name (spools)
and child processes of each program, and the files in each folder, are sampled; the slope of each over the second half
of the run (Theil-Sen) says what it gained there. What grows with the rounds because it must (the trail's models, the
ledger, the log) is held to a limit for each round. The status is 1 where anything grew by more than noise.

  python -m benchmarks soak --minutes 60 --out results.jsonl --samples samples.jsonl
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.counts import parse_count
from benchmarks.options import parser_of
from benchmarks.results import Row, append, markdown, say
from benchmarks.swarming import Crowd, SwarmProcess, federation
from benchmarks.trend import Limit, Trend, trend_of
from benchmarks.watching import Watch, of_folder
from fedn.api.client import APIClient
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Conflict
from fedn.sandbox.federation import Sandbox

_ATTACH_WITHIN_S = 120.0
_MIB = 1 << 20
_FLOAT_BYTES = 4

LIMITS = {
    "rss_bytes": Limit(8 * _MIB, 0.04),
    "threads": Limit(12.0),
    "open_files": Limit(2.0, 0.03),
    "nameless_files": Limit(1.0),
    "nameless_bytes": Limit(1.0 * _MIB),
    "processes": Limit(0.5),
    "files": Limit(2.0),
    "bytes": Limit(2 * _MIB, 0.03),
}
"""By quantity: what the second half may gain.

Threads: a pool of Python's makes one more whenever all it has are busy, up to its limit (asyncio's: cores + 4), and
keeps it. When that happens is chance, so the second half may still see the last ones come. A leak makes one with each
session or client that leaves, dozens of them.
"""
_LEDGER_BYTES = 2_000
"""Of the state store, for each client and round."""
_ROUND_BYTES = 20_000
"""Beside that, for each round: trail entry, events."""
_LOG_BYTES = 10_000
"""For each round, of all programs together."""

PLANS: tuple[Mapping[str, Any], ...] = (
    {},
    {"validate": True},
    {"deterministic": True, "clients_requested": 10, "max_attempts": 2},
    {"sum_dtype": "float32"},
    {"clients_requested": 10},
    {"reducer_mean": "plain"},
)
"""Of sessions, in turn. In deterministic ones updates wait for their turn in spool files, and a client that fails makes
the session fail. The last session of each turn is stopped on its way."""


class _Rounds:
    """Sessions one after another, until the time is over."""

    def __init__(self, sandbox: Sandbox, crowd: Crowd, sites: int, rounds: int) -> None:
        self.done = 0
        """Committed rounds."""
        self.sessions: list[str] = []
        """How each one ended."""
        self._sandbox = sandbox
        self._everybody = crowd.clients + sites
        self._rounds = rounds

    def run(self, over: Callable[[], bool]) -> None:
        """Until `over` says so. RuntimeError where a session fails that should not."""
        while not over():
            turn = len(self.sessions) % len(PLANS)
            self._session(PLANS[turn], over, stop_after=2 if turn == len(PLANS) - 1 else None)

    def _session(self, plan: Mapping[str, Any], over: Callable[[], bool], stop_after: int | None) -> None:
        content = self._sandbox.plan(rounds=self._rounds).model_dump(by_alias=True)
        content |= {
            "validate": False,
            "clients_required": min(5, self._everybody),
            "round_timeout_s": 60.0,
            "disconnect_grace_s": 2.0,
            **plan,
        }
        api, before = self._sandbox.api, self.done
        session = api.start_session(SessionPlan.model_validate(content)).id
        stopping = False
        for progress in self._sandbox.follow(session):
            self.done = before + progress.rounds_done
            enough = over() or (stop_after is not None and progress.rounds_done >= stop_after)
            if enough and not stopping and not progress.done:
                stopping = True
                _stop(api, session)
        view = api.session(session)
        self.sessions.append(view.state)
        if view.state != "finished" and not stopping and not plan.get("deterministic"):
            raise RuntimeError(f"a session {view.state}: {view.error.message if view.error else 'no reason told'}")


def _stop(api: APIClient, session: str) -> None:
    """Stops a session that may have ended by itself a moment ago."""
    try:
        api.stop_session(session)
    except Conflict as error:
        if error.code != "session_not_running":
            raise


@dataclass(frozen=True, kw_only=True)
class Run:
    """How long, and how closely it is watched."""

    minutes: float
    warm_up: int
    """Rounds before that: programs take what they need once."""
    rounds: int
    """Of each session."""
    every_s: float
    """Between samples."""
    samples: Path | None = None
    """File for every sample, a line each."""


def measure(crowd: Crowd, run: Run, *, sites: int) -> Row:
    """One row, with a verdict for each program or folder and each of its quantities.

    Args:
        sites: real clients beside the swarm.

    Raises:
        RuntimeError: the swarm did not come up, or a session failed that should not.
    """
    with tempfile.TemporaryDirectory(prefix="fedn-soak-") as name, ExitStack() as stack:
        folder = Path(name)
        temporary = stack.enter_context(_temporary_files_in(folder / "tmp"))
        sandbox = stack.enter_context(federation(folder, crowd, sites=sites))
        swarm = SwarmProcess(sandbox.context_file, crowd)
        stack.callback(swarm.end)
        swarm.wait_attached(_ATTACH_WITHIN_S)
        training = _Rounds(sandbox, crowd, sites, run.rounds)
        training.run(lambda: training.done >= run.warm_up)
        programs = {program.name: program.pid for program in sandbox.programs} | {"swarm": swarm.pids[0]}
        watch = Watch(programs, _folders(sandbox, temporary), lambda: training.done, every_s=run.every_s)
        end = time.monotonic() + 60 * run.minutes
        with watch:
            training.run(lambda: time.monotonic() >= end)
        if run.samples is not None:
            _write(watch, run.samples)
        deeds = dict(swarm.end())
        sandbox_rounds, states = training.done, training.sessions
        trail = sandbox.api.verify_trail().length
        sandbox.close()
        left = of_folder(temporary)["files"]
    model_bytes = crowd.params * _FLOAT_BYTES
    # A model and its description for each round; a session and the store itself have a few files of their own.
    by_round = {
        "store": {"files": 3.0, "bytes": model_bytes * 1.01 + _ROUND_BYTES + _LEDGER_BYTES * (crowd.clients + sites)},
        "logs": {"files": 0.0, "bytes": _LOG_BYTES},
    }
    verdicts = judge(watch, by_round)
    return {
        "bench": "soak",
        "minutes": run.minutes,
        "clients": crowd.clients,
        "sites": sites,
        "combiners": crowd.combiners,
        "params": crowd.params,
        "rounds": sandbox_rounds,
        "sessions": {state: states.count(state) for state in sorted(set(states))},
        "trail": trail,
        "samples": len(watch.samples),
        "left_behind": left,
        "swarm": deeds,
        "verdicts": verdicts,
        "kept": all(verdict["kept"] for verdict in verdicts) and not left,
    }


def judge(watch: Watch, by_round: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """A verdict for each program or folder and quantity.

    Args:
        by_round: folders that grow with the rounds, to what a round may add to each quantity.
    """
    return [
        _verdict(name, quantity, watch, places, values, by_round.get(name))
        for name, quantity, places, values in watch.series()
        if len(values) >= 4
    ]


def _verdict(
    name: str,
    quantity: str,
    watch: Watch,
    places: Sequence[int],
    values: Sequence[float],
    by_round: Mapping[str, float] | None,
) -> Row:
    trend = trend_of([(watch.at_s if by_round is None else watch.done)[place] for place in places], values)
    if by_round is not None:
        allowed, gained, unit = by_round[quantity], trend.slope, "a round"
    else:
        allowed, gained, unit = LIMITS[quantity].of(trend.median), trend.growth, "in the second half"
    return {
        "of": name,
        "quantity": quantity,
        **_figures(trend),
        "gained": gained,
        "allowed": allowed,
        "unit": unit,
        "kept": gained <= allowed,
    }


def _figures(trend: Trend) -> Row:
    return {key: value for key, value in asdict(trend).items() if key != "slope"}


def _folders(sandbox: Sandbox, temporary: Path) -> dict[str, Path]:
    data = sandbox.options.data_dir
    sites = {f"{folder.name} files": folder for folder in sorted((data / "sites").iterdir())}
    return {"store": data / "reducer", "logs": data / "logs", "temporary files": temporary, **sites}


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[Path]:
    """Programs that start meanwhile have their temporary files there."""
    folder.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _write(watch: Watch, file: Path) -> None:
    with file.open("w") as lines:
        for at_s, done, sample in zip(watch.at_s, watch.done, watch.samples, strict=True):
            lines.write(json.dumps({"at_s": round(at_s, 3), "rounds": done, **sample}) + "\n")


def table(rows: Sequence[Row]) -> str:
    """The last row as Markdown: what grew too much, if anything; then programs and folders, a line each."""
    verdicts = rows[-1]["verdicts"]
    broken = [one for one in verdicts if not one["kept"]]
    parts = []
    if broken:
        titles = ("grew", "quantity", "first", "median", "last", "gained", "", "allowed")
        parts.append(markdown(titles, [_line(one) for one in broken]))
    programs = [one["of"] for one in verdicts if one["quantity"] == "rss_bytes"]
    of_programs = (
        "program",
        "MB at first",
        "median",
        "gained",
        "allowed",
        "threads",
        "gained",
        "open files",
        "gained",
        "kept",
    )
    parts.append(markdown(of_programs, [_program(name, verdicts) for name in programs]))
    folders = [one["of"] for one in verdicts if one["quantity"] == "files"]
    of_folders = ("folder", "files at last", "gained", "allowed", "MB at last", "gained", "allowed", "", "kept")
    parts.append(markdown(of_folders, [_folder(name, verdicts) for name in folders]))
    return "\n\n".join(parts)


def _line(verdict: Row) -> list[object]:
    in_mb = verdict["quantity"].endswith("bytes")
    quantity = verdict["quantity"].removesuffix("bytes") + "MB" if in_mb else verdict["quantity"]
    figures = [verdict[key] / (_MIB if in_mb else 1) for key in ("first", "median", "last", "gained", "allowed")]
    name = verdict["of"].replace("/", ": ")
    return [name, quantity.replace("_", " "), *figures[:4], verdict["unit"], figures[4]]


def _program(name: str, verdicts: Sequence[Row]) -> list[object]:
    mine = {one["quantity"]: one for one in verdicts if one["of"] == name}
    memory, threads, files = mine["rss_bytes"], mine["threads"], mine["open_files"]
    sizes = [memory[key] / _MIB for key in ("first", "median", "gained", "allowed")]
    counts = [threads["median"], threads["gained"], files["median"], files["gained"]]
    return [name.replace("/", ": "), *sizes, *counts, all(one["kept"] for one in mine.values())]


def _folder(name: str, verdicts: Sequence[Row]) -> list[object]:
    mine = {one["quantity"]: one for one in verdicts if one["of"] == name}
    files, size = mine["files"], mine["bytes"]
    counts = [files[key] for key in ("last", "gained", "allowed")]
    sizes = [size[key] / _MIB for key in ("last", "gained", "allowed")]
    return [name, *counts, *sizes, size["unit"], files["kept"] and size["kept"]]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("soak", __doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long rounds go on [default: 60]")
    parser.add_argument("--clients", type=parse_count, default=60, help="light clients [default: 60]")
    parser.add_argument("--sites", type=parse_count, default=3, help="real clients [default: 3]")
    parser.add_argument("--combiners", type=parse_count, default=2, help="[default: 2]")
    parser.add_argument("--params", type=parse_count, default=100_000, help="size of the model [default: 100k]")
    parser.add_argument("--rounds", type=parse_count, default=20, help="of each session [default: 20]")
    parser.add_argument("--warm-up", type=int, default=50, help="rounds before samples are taken [default: 50]")
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="seconds between samples [default: 2]")
    parser.add_argument("--samples", type=Path, help="file for every sample, a line of JSON each")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    behaviour = {"think-ms": 50, "think-spread": 0.5, "failure-rate": 0.01, "dropout-rate": 0.01, "away-s": 2}
    options = {**behaviour, "slow-share": 0.05, "slow-bytes-per-s": 2e6}
    crowd = Crowd(clients=given.clients, params=given.params, combiners=given.combiners, processes=1, options=options)
    run = Run(
        minutes=given.minutes,
        warm_up=given.warm_up,
        rounds=given.rounds,
        every_s=given.every,
        samples=given.samples,
    )
    row = measure(crowd, run, sites=given.sites)
    append(given.out, row)
    say(f"{row['rounds']} rounds, sessions: {row['sessions']}, samples: {row['samples']}")
    print(table([row]))
    return 0 if row["kept"] else 1
