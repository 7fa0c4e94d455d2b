"""Small messages through a combiner: how many a second, on the clients' streams and by unary calls.

`turns`: a client pings and waits for the pong before it pings again. `one way`: progress reports, which the combiner
decodes and looks up, one after the other; a last ping says when all are read. `unary`: the health check of the same
server. Beside each stands the rate of raw Python gRPC in the same run, with messages of 64 bytes.

  python -m benchmarks relay --streams 1,10,50
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from benchmarks.counts import parse_count, parse_counts
from benchmarks.floors.bulk import small_per_s
from benchmarks.options import choice, parser_of
from benchmarks.proc import cpu_s
from benchmarks.results import Row, append, markdown
from benchmarks.wire.combiner import CombinerProcess
from benchmarks.wire.streams import ClientStream, channel
from benchmarks.wire.trust import Trust
from fedn.network.generated import client_pb2

KINDS = {"turns": "turn", "one way": "oneway", "unary": "unary"}
"""What is measured, and the name of the same in raw gRPC."""


def measure(streams: int, messages: int, *, tls: bool) -> list[Row]:
    """A row for each kind, over so many streams (a connection each) and so many messages in all."""
    with tempfile.TemporaryDirectory(prefix="fedn-relay-") as name:
        folder = Path(name)
        Trust(folder)
        combiner = CombinerProcess(folder, tls=tls)
        try:
            found = asyncio.run(_load(folder, combiner, streams, max(1, messages // streams), tls=tls))
        finally:
            combiner.close()
    rows = []
    for kind, (rate, cpu_us) in found.items():
        raw = small_per_s(KINDS[kind], streams, tls=tls)
        rows.append(
            {
                "bench": "relay",
                "kind": kind,
                "streams": streams,
                "tls": tls,
                "per_s": rate,
                "combiner_cpu_us": cpu_us,
                "raw_per_s": raw,
                "of_raw": rate / raw,
            }
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    keys = ("kind", "streams", "tls", "per_s", "combiner_cpu_us", "raw_per_s", "of_raw")
    columns = ("kind", "streams", "TLS", "messages/s", "combiner CPU µs each", "raw gRPC messages/s", "of raw")
    return markdown(columns, [[row[key] for key in keys] for row in rows])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("relay", __doc__)
    parser.add_argument("--streams", type=parse_counts, default=(1, 10), help="clients [default: 1,10]")
    parser.add_argument("--messages", type=parse_count, default=5_000, help="of each kind, in all [default: 5000]")
    parser.add_argument("--tls", type=choice, default=(True,), help="on, off or both [default: on]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    rows = []
    for streams, tls in itertools.product(given.streams, given.tls):
        found = measure(streams, given.messages, tls=tls)
        for row in found:
            append(given.out, row)
        rows += found
    print(table(rows))
    return 0


async def _load(
    folder: Path, combiner: CombinerProcess, streams: int, each: int, *, tls: bool
) -> dict[str, tuple[float, float]]:
    """Messages a second of each kind, and what one costs the combiner in processor microseconds."""
    trust = Trust(folder)
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel(trust, combiner.port, tls=tls)) for _ in range(streams)]
        clients = [
            await stack.enter_async_context(ClientStream(opened, f"client-{index}", trust))
            for index, opened in enumerate(channels)
        ]
        for client in clients:
            await client.hello()
        kinds: dict[str, Callable[[int], Awaitable[None]]] = {
            "turns": lambda index: _turns(clients[index], each),
            "one way": lambda index: _one_way(clients[index], each),
            "unary": lambda index: _unary(channels[index], each),
        }
        found = {}
        for kind, call in kinds.items():
            cpu_begun, begun = cpu_s(combiner.pid), time.perf_counter()
            await asyncio.gather(*(call(index) for index in range(streams)))
            seconds, cpu = time.perf_counter() - begun, cpu_s(combiner.pid) - cpu_begun
            found[kind] = streams * each / seconds, cpu / (streams * each) * 1e6
        return found


async def _turns(client: ClientStream, count: int) -> None:
    for nonce in range(count):
        await client.ping(nonce)


async def _one_way(client: ClientStream, count: int) -> None:
    report = client_pb2.ClientFrame(
        task_progress=client_pb2.TaskProgress(task_id="no-such-task", fraction=0.5, metrics={"loss": 0.25})
    ).SerializeToString()
    for _ in range(count):
        await client.write(report)
    await client.ping(count)


async def _unary(opened: grpc.aio.Channel, count: int) -> None:
    call: Any = opened.unary_unary("/grpc.health.v1.Health/Check", request_serializer=None, response_deserializer=None)
    request = health_pb2.HealthCheckRequest().SerializeToString()
    for _ in range(count):
        await call(request)
