"""Rounds with thousands of light clients on few combiners: what each client costs, and whether everything stays quick.

The programs are the real ones: a reducer, combiners, and `fedn swarm` in a few processes, with a TLS connection for
each client unless --per-connection says otherwise. Each client receives the model, verifies it, and sends back an
update of its own; the round is committed, the trail verified, the ledger counted, the global model compared with what
it must be. Measured: the time until all are attached, rounds, memory and processor time of each program, how long a
combiner needs to answer a health check meanwhile.

  python -m benchmarks scale --clients 1k,2500,5k,10k --out results.jsonl
  python -m benchmarks scale --clients 5k --combiners 2
  python -m benchmarks scale --clients 40 --params 250M --rounds 1 --sum-dtype float32 --round-timeout-s 3600
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.noop.workload import make_model
from benchmarks.options import parser_of
from benchmarks.results import Row, append, markdown, say
from benchmarks.swarming import Crowd, SwarmProcess, cpu_of, federation, memory_mb, pids_of, probes
from benchmarks.watching import Watch
from fedn.models.files import read_tensors
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView
from fedn.sandbox.federation import Sandbox

_ATTACH_WITHIN_S = 600.0
_STEP = 1e-3
_IDLE_S = 3.0
_SPILL_EVERY_S = 0.5


def measure(crowd: Crowd, *, rounds: int, sum_dtype: str = "float64", round_timeout_s: float = 600.0) -> Row:
    """One row.

    Args:
        sum_dtype: of the plan.

    Raises:
        RuntimeError: not all clients came, the session did not finish, or the result is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="fedn-scale-") as name, ExitStack() as stack:
        folder = Path(name)
        sandbox = stack.enter_context(federation(folder, crowd))
        watching = stack.enter_context(probes(sandbox))
        pids = pids_of(sandbox)
        empty = memory_mb(pids["combiners"])
        begun, cpu_begun = time.monotonic(), cpu_of(pids)
        swarm = SwarmProcess(sandbox.context_file, crowd)
        stack.callback(swarm.end)
        swarm.wait_attached(_ATTACH_WITHIN_S)
        attach_s = time.monotonic() - begun
        pids["swarm"] = swarm.pids
        attached, cpu_attached = memory_mb(pids["combiners"]), cpu_of(pids)
        idle_cpu = _idle(pids["combiners"])
        for probe in watching:
            probe.take()
        cpu_before, busy_before, wall_before = cpu_of(pids), _busy_s(), time.monotonic()
        plan = {"clients_required": crowd.clients, "sum_dtype": sum_dtype, "round_timeout_s": round_timeout_s}
        spilling = Watch({f"{pid}": pid for pid in pids["combiners"]}, {}, lambda: 0, every_s=_SPILL_EVERY_S)
        with spilling:
            session, views = _train(sandbox, plan, rounds)
        cpu_after, busy_after, wall_after = cpu_of(pids), _busy_s(), time.monotonic()
        answers = sorted(second for probe in watching for second in probe.take())
        row: Row = {
            "bench": "scale",
            "clients": crowd.clients,
            "params": crowd.params,
            "combiners": crowd.combiners,
            "processes": crowd.processes,
            "options": dict(crowd.options),
            "sum_dtype": sum_dtype,
            "attach_s": attach_s,
            "attach_cpu_s": {kind: cpu_attached[kind] - cpu_begun[kind] for kind in cpu_begun},
            "idle_cpu_percent": 100 * idle_cpu,
            "combiner_mb": {"empty": empty["now"], "attached": attached["now"], **memory_mb(pids["combiners"])},
            "kb_per_client": (attached["now"] - empty["now"]) * 1024 * crowd.combiners / crowd.clients,
            "cores": os.cpu_count(),
            "other_cores": _others(busy_after - busy_before, cpu_before, cpu_after) / (wall_after - wall_before),
            "reducer_mb": memory_mb(pids["reducer"]),
            "swarm_mb": memory_mb(pids["swarm"]),
            "spilled_mb": _most_spilled(spilling) / 2**20,
            "cpu_s": (cpu := {kind: (cpu_after[kind] - cpu_before[kind]) / rounds for kind in pids}),
            "cpu_ms_per_client": {kind: 1e3 * seconds / crowd.clients for kind, seconds in cpu.items()},
            "health_ms": _quantiles_ms(answers),
            "health_failures": sum(probe.failures for probe in watching),
            **_rounds(views),
            "max_err": _max_error(sandbox, session, crowd, rounds, folder),
            "trail": sandbox.api.verify_trail().length,
            "swarm": dict(swarm.end()),
        }
    if any(row["ledger"] != {"updated": crowd.clients} for row in row["ledgers"]):
        raise RuntimeError(f"not every client's update counted: {row['ledgers']}")
    return row


def _train(sandbox: Sandbox, plan: Mapping[str, Any], rounds: int) -> tuple[Any, list[RoundView]]:
    content = sandbox.plan(rounds=rounds).model_dump(by_alias=True) | {"validate": False, **plan}
    session = sandbox.api.start_session(SessionPlan.model_validate(content)).id
    for _ in sandbox.follow(session):
        pass
    view = sandbox.api.session(session)
    if view.state != "finished":
        raise RuntimeError(f"the session {view.state}: {view.error.message if view.error else 'no reason told'}")
    return view, sorted(sandbox.api.rounds(session), key=lambda one: one.index)


def _most_spilled(watch: Watch) -> float:
    """Bytes of spool files at once, at the combiner that had the most of them in a sample."""
    return max((values["nameless_bytes"] for sample in watch.samples for values in sample.values()), default=0.0)


def _rounds(views: Sequence[RoundView]) -> Row:
    ends = [view.ended_at or 0.0 for view in views]
    lengths = [ends[0] - views[0].started_at, *(after - before for before, after in itertools.pairwise(ends))]
    names = sorted({name for view in views for name in view.times_ms})
    return {
        # Not the median: the next round begins before the one before is durable, so single lengths vary.
        "round_s": statistics.mean(lengths[1:] or lengths),
        "first_s": lengths[0],
        "all_rounds": lengths,
        "times_ms": {name: statistics.median(view.times_ms.get(name, 0.0) for view in views) for name in names},
        "fold_ms": statistics.median(sum(model.fold_ms for model in view.combiner_models) for view in views),
        "ledgers": [{"ledger": dict(Counter(str(entry.state) for entry in view.ledger))} for view in views],
    }


def _max_error(sandbox: Sandbox, session: Any, crowd: Crowd, rounds: int, folder: Path) -> float:
    """The largest distance of the last model from w₀ + rounds · step · (clients + 1) / 2."""
    sandbox.api.download_model(session.model_id, folder / "final.safetensors")
    tensors = read_tensors(folder / "final.safetensors")
    shift = np.float32(rounds * _STEP * (crowd.clients + 1) / 2)
    pairs = zip((tensors[key] for key in sorted(tensors)), make_model(crowd.params), strict=True)
    return float(max(np.abs(got - (first + shift)).max() for got, first in pairs))


def _busy_s() -> float:
    """Processor seconds so far of all programs of this machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _others(busy_s: float, before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Processor seconds, of those, that went to programs that are not measured here."""
    return max(0.0, busy_s - (sum(after.values()) - sum(before.values())))


def _idle(pids: Sequence[int]) -> float:
    """Share of a processor that the combiners use while nothing happens."""
    before = sum(cpu_of({"combiners": pids}).values())
    time.sleep(_IDLE_S)  # the measurement itself: nothing is waited for
    return (sum(cpu_of({"combiners": pids}).values()) - before) / _IDLE_S


def _quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Of sorted durations."""
    if not seconds:
        return {}
    return {
        "p50": 1e3 * seconds[len(seconds) // 2],
        "p99": 1e3 * seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))],
        "max": 1e3 * seconds[-1],
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    columns = (
        *("clients", "combiners", "attached after s", "round s", "first s", "combiner MB empty", "attached", "peak"),
        *("after", "kB/client", "spilled MB", "reducer MB", "idle CPU %", "health p50 ms", "p99 ms", "longest ms"),
        *("heartbeat p50 ms", "p99 ms"),
        *("CPU/client-round: combiners ms", "reducer ms", "swarm ms", "others' cores", "max error"),
    )
    return markdown(columns, [_line(row) for row in rows])


def _line(row: Row) -> list[object]:
    memory, health, cpu = row["combiner_mb"], row["health_ms"], row["cpu_ms_per_client"]
    pings = row["swarm"]["ping"]
    return [
        format_count(row["clients"]),
        *(row[key] for key in ("combiners", "attach_s", "round_s", "first_s")),
        *(memory[key] for key in ("empty", "attached", "peak", "now")),
        row["kb_per_client"],
        row["spilled_mb"],
        row["reducer_mb"]["peak"],
        row["idle_cpu_percent"],
        *(health.get(key) for key in ("p50", "p99", "max")),
        *((pings["p50_ms"], pings["p99_ms"]) if pings["count"] else (None, None)),
        *(cpu[key] for key in ("combiners", "reducer", "swarm")),
        row["other_cores"],
        f"{row['max_err']:.1e}",
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("scale", __doc__)
    parser.add_argument("--clients", type=parse_counts, default=(1_000,), help="numbers of clients [default: 1k]")
    parser.add_argument("--params", type=parse_count, default=100_000, help="size of the model [default: 100k]")
    parser.add_argument("--combiners", type=parse_count, default=1, help="[default: 1]")
    parser.add_argument("--rounds", type=parse_count, default=3, help="[default: 3]")
    parser.add_argument("--processes", type=parse_count, default=2, help="of the swarm [default: 2]")
    parser.add_argument("--per-connection", type=parse_count, default=1, help="clients a connection [default: 1]")
    parser.add_argument("--sum-dtype", choices=("float64", "float32"), default="float64", help="[default: float64]")
    parser.add_argument("--round-timeout-s", type=float, default=600.0, help="[default: 600]")
    parser.add_argument("--think-ms", type=float, default=0.0, help="how long a task takes [default: 0]")
    parser.add_argument("--ping-s", type=float, default=0.0, help="each client pings so often [default: when idle]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    options = {
        "streams-per-connection": given.per_connection,
        "think-ms": given.think_ms,
        "ping-s": given.ping_s,
        "step": _STEP,
    }
    rows = []
    for clients in given.clients:
        crowd = Crowd(
            clients=clients,
            params=given.params,
            combiners=given.combiners,
            processes=given.processes,
            options=options,
        )
        timeout_s = given.round_timeout_s
        rows.append(measure(crowd, rounds=given.rounds, sum_dtype=given.sum_dtype, round_timeout_s=timeout_s))
        append(given.out, rows[-1])
        say(f"{format_count(clients)} clients: {rows[-1]['round_s']:.3g} s a round")
    print(table(rows))
    return 0
