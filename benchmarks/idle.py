"""Attached idle clients on one combiner process: what each costs in memory, and whether the combiner stays quick.

Light streams over the real protocol in a few processes, a connection (TLS) for each client unless --per-connection says
otherwise. Measured: memory and processor time of the combiner with all attached, the latency of heartbeats (a ping of
one client at a time), and the time from the start of a round with a task for everybody until the last one has it.

  python -m benchmarks idle --clients 1k,5k,10k
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.cells import end_on_signals
from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.floors.grpc_parts import Child, children
from benchmarks.noop.workload import make_model
from benchmarks.options import choice, parser_of
from benchmarks.proc import MIB, cpu_s, memory_of
from benchmarks.results import Row, append, markdown, say
from benchmarks.wire.combiner import CombinerProcess, raise_file_limit
from benchmarks.wire.crowd import client_name
from benchmarks.wire.streams import ReducerStream, channel, messages_of
from benchmarks.wire.trust import Trust
from fedn.models.digest import digest
from fedn.models.wire import encode
from fedn.protocol.rounds import RoundSpec
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec

_PARAMS = 1_000
"""The task's model is small: what is measured is the task."""
_SPARE_FILES = 200


def measure(clients: int, *, processes: int, per_connection: int, idle_s: float, pings: int, tls: bool) -> Row:
    """One row: `kb_per_client` of the combiner, heartbeat latencies in milliseconds, seconds to dispatch to all.

    Raises:
        ValueError: this machine does not allow so many connections of one process.
    """
    connections = -(-clients // per_connection)
    if (allowed := raise_file_limit()) < connections + _SPARE_FILES:
        raise ValueError(
            f"{connections} connections need a limit of {connections + _SPARE_FILES} open files a process, and it is "
            f"{allowed}: raise it (ulimit -n), or give --per-connection"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-idle-")))
        Trust(folder)
        combiner = CombinerProcess(folder, tls=tls)
        stack.callback(combiner.close)
        before = memory_of(combiner.pid)
        begun = time.monotonic()
        crowds = stack.enter_context(
            children("benchmarks.wire.crowd", _shares(folder, combiner.port, clients, processes, per_connection, tls))
        )
        for crowd in crowds:
            crowd.hear()
        connect_s = time.monotonic() - begun
        attached = memory_of(combiner.pid)
        idle_cpu = _idle_cpu(combiner.pid, idle_s)
        latencies = [
            latency for crowd in crowds for latency in _asked(crowd, f"ping {max(1, pings // len(crowds))}")["ms"]
        ]
        dispatch_s = asyncio.run(_dispatch(folder, combiner, crowds, clients, tls=tls))
        after = memory_of(combiner.pid)
    quantiles = statistics.quantiles(latencies, n=100)
    return {
        "bench": "idle",
        "clients": clients,
        "tls": tls,
        "per_connection": per_connection,
        "connect_s": connect_s,
        "combiner_mb": attached.now / MIB,
        "kb_per_client": (attached.now - before.now) / clients / 1024,
        "idle_cpu_percent": 100 * idle_cpu,
        "ping_p50_ms": quantiles[49],
        "ping_p99_ms": quantiles[98],
        "dispatch_s": dispatch_s,
        "peak_mb": after.peak / MIB,
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    keys = {
        "TLS": "tls",
        "clients/connection": "per_connection",
        "attached after s": "connect_s",
        "combiner MB": "combiner_mb",
        "kB/client": "kb_per_client",
        "idle CPU %": "idle_cpu_percent",
        "heartbeat p50 ms": "ping_p50_ms",
        "p99 ms": "ping_p99_ms",
        "task to all s": "dispatch_s",
        "peak MB": "peak_mb",
    }
    lines = [[format_count(row["clients"]), *(row[key] for key in keys.values())] for row in rows]
    return markdown(("clients", *keys), lines)


def main(arguments: Sequence[str]) -> int:
    parser = parser_of("idle", __doc__)
    parser.add_argument("--clients", type=parse_counts, default=(1_000,), help="numbers of clients [default: 1k]")
    parser.add_argument("--processes", type=parse_count, default=4, help="that hold them [default: 4]")
    parser.add_argument("--per-connection", type=parse_count, default=1, help="clients a connection [default: 1]")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds over which nothing happens [default: 5]")
    parser.add_argument("--pings", type=parse_count, default=1_000, help="heartbeats to time [default: 1000]")
    parser.add_argument("--tls", type=choice, default=(True,), help="on, off or both [default: on]")
    given: argparse.Namespace = parser.parse_args(arguments)
    end_on_signals()
    rows = []
    for clients, tls in itertools.product(given.clients, given.tls):
        rows.append(
            measure(
                clients,
                processes=given.processes,
                per_connection=given.per_connection,
                idle_s=given.idle,
                pings=given.pings,
                tls=tls,
            )
        )
        append(given.out, rows[-1])
        say(f"{format_count(clients)} clients: {rows[-1]['kb_per_client']:.0f} kB each")
    print(table(rows))
    return 0


def _shares(
    folder: Path, port: int, clients: int, processes: int, per_connection: int, tls: bool
) -> list[tuple[object, ...]]:
    """The arguments of each process that holds clients."""
    shares, first = [], 0
    for index in range(min(processes, clients)):
        count = clients // processes + (index < clients % processes)
        shares.append((folder, port, first, count, per_connection, *(() if tls else ("--plain",))))
        first += count
    return shares


def _idle_cpu(pid: int, seconds: float) -> float:
    """The share of a processor that a process uses while nothing happens."""
    begun = cpu_s(pid)
    time.sleep(seconds)  # the measurement itself: nothing is waited for
    return (cpu_s(pid) - begun) / seconds


def _asked(crowd: Child, question: str) -> Row:
    crowd.tell(question)
    answer: Row = crowd.hear()
    return answer


async def _dispatch(
    folder: Path, combiner: CombinerProcess, crowds: Sequence[Child], clients: int, *, tls: bool
) -> float:
    """Seconds from the start of a round until every client has its task and the model."""
    content = encode({f"{name:02d}": array for name, array in enumerate(make_model(_PARAMS))})
    model_id = digest(content)
    tasks = tuple(
        TaskSpec(task_id=f"task-{index}", client=client_name(index), kind=TaskKind.TRAIN, model_id=model_id)
        for index in range(clients)
    )
    spec = RoundSpec(name=RoundName(session="benchmark", index=0, attempt=0, epoch=1), tasks=tasks, deadline_s=600.0)
    trust = Trust(folder)
    async with channel(trust, combiner.port, tls=tls) as opened, ReducerStream(opened, trust) as link:
        await link.hello()
        for crowd in crowds:
            crowd.tell("task")
        begun = time.monotonic()
        await link.start(spec, model_id, len(content), messages_of(content))
        # The round's events are read meanwhile, as a reducer does.
        reading = asyncio.create_task(link.done())
        last = max([(await asyncio.to_thread(crowd.hear))["at"] for crowd in crowds])
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return float(last - begun)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
