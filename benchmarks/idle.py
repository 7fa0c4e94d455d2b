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
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.floors.grpc_parts import Certificates, Child, children, raise_file_limit, tls_argument
from benchmarks.floors.raw_idle import RawServer
from benchmarks.noop.workload import make_model
from benchmarks.options import choice, parser_of
from benchmarks.proc import MIB, cpu_s, memory_of
from benchmarks.results import Row, append, markdown, say
from benchmarks.wire.combiner import CombinerProcess
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


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """How the clients come."""

    clients: int
    processes: int = 4
    per_connection: int = 1
    """Clients that share one connection."""
    tls: bool = True

    def check(self) -> None:
        """Raises ValueError where this machine does not allow one process so many connections."""
        needed = -(-self.clients // self.per_connection) + _SPARE_FILES
        if (allowed := raise_file_limit()) < needed:
            raise ValueError(
                f"{self.clients} clients need a limit of {needed} open files a process, and it is {allowed}: "
                "raise it (ulimit -n), or give --per-connection"
            )

    def shares(self, folder: Path, port: int, *extra: object) -> list[tuple[object, ...]]:
        """The arguments of each process that holds clients."""
        shares, first = [], 0
        for index in range(min(self.processes, self.clients)):
            count = self.clients // self.processes + (index < self.clients % self.processes)
            shares.append((folder, port, first, count, self.per_connection, *extra))
            first += count
        return shares


def measure(crowd: Crowd, *, idle_s: float, pings: int, with_raw: bool) -> Row:
    """One row: what a client costs the combiner, latencies, seconds until all have a task; beside raw gRPC's."""
    crowd.check()
    row: Row = {"bench": "idle", "clients": crowd.clients, "tls": crowd.tls, "per_connection": crowd.per_connection}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-idle-")))
        Trust(folder)
        combiner = CombinerProcess(folder, tls=crowd.tls)
        stack.callback(combiner.close)
        shares = crowd.shares(folder, combiner.port, *(() if crowd.tls else ("--plain",)))
        row |= _attached(
            combiner.pid,
            shares,
            idle_s=idle_s,
            pings=pings,
            dispatch=lambda holders: asyncio.run(_dispatch(folder, combiner, holders, crowd)),
        )
    if not with_raw:
        return row
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-idle-")))
        certificates = Certificates.make(folder) if crowd.tls else None
        server = RawServer(certificates)
        stack.callback(server.close)
        shares = crowd.shares(folder, server.port, "--raw", tls_argument(certificates))
        raw = _attached(
            server.pid, shares, idle_s=idle_s, pings=pings, dispatch=lambda holders: _pushed(server, holders)
        )
    row |= {f"raw_{name}": value for name, value in raw.items()}
    return row | {"of_raw_memory": row["kb_per_client"] / row["raw_kb_per_client"]}


def _attached(
    pid: int,
    shares: list[tuple[object, ...]],
    *,
    idle_s: float,
    pings: int,
    dispatch: Callable[[Sequence[Child]], float],
) -> Row:
    """What a server (its process) does with a crowd: `dispatch` sends something to all, and says how long it took."""
    clients = sum(int(str(share[3])) for share in shares)
    before = memory_of(pid)
    begun = time.monotonic()
    with children("benchmarks.wire.crowd", shares) as holders:
        for holder in holders:
            holder.hear()
        connect_s = time.monotonic() - begun
        attached = memory_of(pid)
        idle_cpu = _idle_cpu(pid, idle_s)
        latencies = [one for holder in holders for one in _asked(holder, f"ping {max(2, pings // len(holders))}")["ms"]]
        for holder in holders:
            holder.tell("task")
        dispatch_s = dispatch(holders)
        after = memory_of(pid)
    quantiles = statistics.quantiles(latencies, n=100)
    return {
        "connect_s": connect_s,
        "server_mb": attached.now / MIB,
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
        "combiner MB": "server_mb",
        "kB/client": "kb_per_client",
        "raw gRPC kB/client": "raw_kb_per_client",
        "× raw": "of_raw_memory",
        "idle CPU %": "idle_cpu_percent",
        "heartbeat p50 ms": "ping_p50_ms",
        "p99 ms": "ping_p99_ms",
        "raw p50 ms": "raw_ping_p50_ms",
        "task to all s": "dispatch_s",
        "raw push to all s": "raw_dispatch_s",
        "peak MB": "peak_mb",
    }
    lines = [[format_count(row["clients"]), *(row.get(key) for key in keys.values())] for row in rows]
    return markdown(("clients", *keys), lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("idle", __doc__)
    parser.add_argument("--clients", type=parse_counts, default=(1_000,), help="numbers of clients [default: 1k]")
    parser.add_argument("--processes", type=parse_count, default=4, help="that hold them [default: 4]")
    parser.add_argument("--per-connection", type=parse_count, default=1, help="clients a connection [default: 1]")
    parser.add_argument("--idle", type=float, default=3.0, help="seconds over which nothing happens [default: 3]")
    parser.add_argument("--pings", type=parse_count, default=1_000, help="heartbeats to time [default: 1000]")
    parser.add_argument("--no-raw", dest="raw", action="store_false", help="leave out the raw gRPC server")
    parser.add_argument("--tls", type=choice, default=(True,), help="on, off or both [default: on]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    rows = []
    for clients, tls in itertools.product(given.clients, given.tls):
        crowd = Crowd(clients=clients, processes=given.processes, per_connection=given.per_connection, tls=tls)
        rows.append(measure(crowd, idle_s=given.idle, pings=given.pings, with_raw=given.raw))
        append(given.out, rows[-1])
        say(f"{format_count(clients)} clients: {rows[-1]['kb_per_client']:.0f} kB each")
    print(table(rows))
    return 0


def _idle_cpu(pid: int, seconds: float) -> float:
    """The share of a processor that a process uses while nothing happens."""
    begun = cpu_s(pid)
    time.sleep(seconds)  # the measurement itself: nothing is waited for
    return (cpu_s(pid) - begun) / seconds


def _asked(crowd: Child, question: str) -> Row:
    crowd.tell(question)
    answer: Row = crowd.hear()
    return answer


async def _dispatch(folder: Path, combiner: CombinerProcess, holders: Sequence[Child], crowd: Crowd) -> float:
    """Seconds from the start of a round until every client has its task and the model."""
    content = encode({f"{name:02d}": array for name, array in enumerate(make_model(_PARAMS))})
    model_id = digest(content)
    tasks = tuple(
        TaskSpec(task_id=f"task-{index}", client=client_name(index), kind=TaskKind.TRAIN, model_id=model_id)
        for index in range(crowd.clients)
    )
    spec = RoundSpec(name=RoundName(session="benchmark", index=0, attempt=0, epoch=1), tasks=tasks, deadline_s=600.0)
    trust = Trust(folder)
    async with channel(trust, combiner.port, tls=crowd.tls) as opened, ReducerStream(opened, trust) as link:
        await link.hello()
        begun = time.monotonic()
        await link.start(spec, model_id, len(content), messages_of(content))
        # The round's events are read meanwhile, as a reducer does.
        reading = asyncio.create_task(link.done())
        last = await asyncio.to_thread(_last, holders)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return last - begun


def _pushed(server: RawServer, holders: Sequence[Child]) -> float:
    begun = time.monotonic()
    server.push()
    return _last(holders) - begun


def _last(holders: Sequence[Child]) -> float:
    """When the last client had what was sent to all."""
    return float(max(holder.hear()["at"] for holder in holders))
