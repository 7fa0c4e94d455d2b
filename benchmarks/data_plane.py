"""The data plane alone: models to C clients and updates from them, through a combiner, against raw gRPC and raw TCP.

A combiner process, C client processes that have their updates at hand, and this process as the reducer. `down` is from
the start of the round until the last client has the model (the reducer's push of it included); `up` from the word to
all clients until the last update is acknowledged: received whole, its digest and values checked; `pull` is the
combiner's model back to the reducer. Raw gRPC moves the same bytes between as many processes, and does nothing else.

  python -m benchmarks data_plane --params 10M --clients 10
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.floors.echo import phases
from benchmarks.floors.grpc_parts import Child, children
from benchmarks.floors.sockets import tcp_bytes_per_s
from benchmarks.noop.workload import make_model
from benchmarks.options import choice, parser_of
from benchmarks.proc import MIB, cpu_s, memory_of
from benchmarks.results import Row, append, markdown
from benchmarks.wire.combiner import CombinerProcess
from benchmarks.wire.streams import ReducerStream, channel, messages_of
from benchmarks.wire.trust import Trust
from benchmarks.wire.uploader import client_name
from fedn.models.digest import digest
from fedn.models.wire import encode
from fedn.protocol.rounds import RoundSpec
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec

_DEADLINE_S = 600.0


def measure(params: int, clients: int, *, rounds: int, tls: bool) -> Row:
    """One cell's row: seconds and GB/s of each direction, the same of raw gRPC, and raw TCP's GB/s."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-plane-")))
        Trust(folder)
        combiner = CombinerProcess(folder, tls=tls)
        stack.callback(combiner.close)
        plain = () if tls else ("--plain",)
        arguments: list[tuple[object, ...]] = [
            (folder, combiner.port, index, params, *plain) for index in range(clients)
        ]
        uploaders = stack.enter_context(children("benchmarks.wire.uploader", arguments))
        for uploader in uploaders:
            uploader.hear()
        times, cpu = asyncio.run(_rounds(folder, combiner, uploaders, params, rounds, tls=tls))
        memory = memory_of(combiner.pid)
    raw = phases(params, clients, rounds=rounds, tls=tls)
    moved = 4 * params * clients
    row: Row = {"bench": "data_plane", "params": params, "clients": clients, "tls": tls, "rounds": rounds}
    for name, values in times.items():
        row[f"{name}_s"] = statistics.median(values)
    for name, values in raw.items():
        row[f"raw_{name}_s"] = statistics.median(values)
        row[f"{name}_gb_s"] = moved / row[f"{name}_s"] / 1e9
        row[f"raw_{name}_gb_s"] = moved / row[f"raw_{name}_s"] / 1e9
        row[f"{name}_of_raw"] = row[f"{name}_s"] / row[f"raw_{name}_s"]
    return row | {
        "raw_tcp_gb_s": tcp_bytes_per_s(clients, 4 * params) / 1e9,
        "combiner_cpu_s": cpu / rounds,
        "server_rss_mb": memory.peak / MIB,
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    keys = {
        "down s": "down_s",
        "down GB/s": "down_gb_s",
        "× raw gRPC down": "down_of_raw",
        "up s": "up_s",
        "up GB/s": "up_gb_s",
        "× raw gRPC up": "up_of_raw",
        "raw gRPC down GB/s": "raw_down_gb_s",
        "raw gRPC up GB/s": "raw_up_gb_s",
        "raw TCP GB/s": "raw_tcp_gb_s",
        "seal s": "seal_s",
        "pull s": "pull_s",
        "combiner CPU s": "combiner_cpu_s",
        "combiner MB": "server_rss_mb",
    }
    columns = ("params", "clients", "TLS", *keys)
    lines = [
        [format_count(row["params"]), row["clients"], row["tls"], *(row[key] for key in keys.values())] for row in rows
    ]
    return markdown(columns, lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("data_plane", __doc__)
    parser.add_argument("--params", type=parse_counts, default=(1_000_000,), help="sizes of the model [default: 1M]")
    parser.add_argument("--clients", type=parse_counts, default=(10,), help="numbers of clients [default: 10]")
    parser.add_argument("--rounds", type=parse_count, default=5, help="after one that warms up [default: 5]")
    parser.add_argument("--tls", type=choice, default=(True,), help="on, off or both [default: on]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    rows = []
    for params, clients, tls in itertools.product(given.params, given.clients, given.tls):
        rows.append(measure(params, clients, rounds=given.rounds, tls=tls))
        append(given.out, rows[-1])
    print(table(rows))
    return 0


async def _rounds(
    folder: Path, combiner: CombinerProcess, uploaders: Sequence[Child], params: int, rounds: int, *, tls: bool
) -> tuple[dict[str, list[float]], float]:
    """Seconds of each phase of each round, and the combiner's processor seconds; the warm-up is left out."""
    times: dict[str, list[float]] = {"down": [], "up": [], "seal": [], "pull": []}
    trust = Trust(folder)
    model = make_model(params)
    cpu_begun = 0.0
    async with channel(trust, combiner.port, tls=tls) as opened, ReducerStream(opened, trust) as link:
        await link.hello()
        for index in range(1 + rounds):
            if index == 1:
                cpu_begun = cpu_s(combiner.pid)
            np.add(model[0], np.float32(1), out=model[0])  # another model than the one that the clients have
            found = await _round(link, uploaders, model, index)
            if index:
                for name, seconds in found.items():
                    times[name].append(seconds)
        return times, cpu_s(combiner.pid) - cpu_begun


async def _round(
    link: ReducerStream, uploaders: Sequence[Child], model: Sequence[np.ndarray], index: int
) -> dict[str, float]:
    content = encode({f"{name:02d}": array for name, array in enumerate(model)})
    model_id, pieces = digest(content), messages_of(content)
    name = RoundName(session="benchmark", index=index, attempt=0, epoch=1)
    tasks = tuple(
        TaskSpec(task_id=f"{index}-{one}", client=client_name(one), kind=TaskKind.TRAIN, model_id=model_id)
        for one in range(len(uploaders))
    )
    begun = time.monotonic()
    await link.start(RoundSpec(name=name, tasks=tasks, deadline_s=_DEADLINE_S), model_id, len(content), pieces)
    down = max([(await asyncio.to_thread(uploader.hear))["task"] for uploader in uploaders]) - begun
    waiting = asyncio.create_task(link.done())
    begun = time.monotonic()
    for uploader in uploaders:
        uploader.tell("go")
    acked = max([(await asyncio.to_thread(uploader.hear))["acked"] for uploader in uploaders])
    done = await waiting
    sealed = time.monotonic()
    await link.fetch(done.model_id, done.size_bytes)
    pulled = time.monotonic()
    await link.acknowledge(name)
    return {"down": down, "up": acked - begun, "seal": max(0.0, sealed - acked), "pull": pulled - sealed}
