"""Messages from worker to worker through a combiner: each pair two processes, over the back end grpc.

`turns`: 64 bytes there and back, one after the other. `one way`: 64 bytes, as fast as they are taken, and an answer to
the last one. `1 MiB`: the same with frames of 1 MiB. Every frame is acknowledged by its receiver. Beside each stands
the rate of raw Python gRPC in the same run: one hop to a server, where a relayed message takes two.

  python -m benchmarks workers --pairs 1,4
"""

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.counts import parse_count, parse_counts
from benchmarks.floors.bulk import bulk_bytes_per_s, small_per_s
from benchmarks.floors.grpc_parts import Child
from benchmarks.options import choice, parser_of
from benchmarks.proc import cpu_s
from benchmarks.results import Row, append, markdown
from benchmarks.wire.combiner import CombinerProcess
from benchmarks.wire.trust import Trust

_MODULE = "benchmarks.wire.worker"


def measure(pairs: int, messages: int, frames: int, *, tls: bool) -> list[Row]:
    """A row for each kind, with so many pairs, and so many messages and frames in all."""
    small, large = max(1, messages // pairs), max(1, frames // pairs)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-workers-")))
        Trust(folder)
        combiner = CombinerProcess(folder, tls=tls)
        stack.callback(combiner.close)
        workers = []
        for rank in range(2 * pairs):
            plain = [] if tls else ["--plain"]
            workers.append(Child(_MODULE, folder, combiner.port, rank, 2 * pairs, small, large, *plain))
            stack.callback(workers[-1].close)
        for worker in workers:
            worker.hear()
        begun = cpu_s(combiner.pid)
        for worker in workers:
            worker.tell("begin")
        told = [worker.hear() for worker in workers[::2]]
        cpu = cpu_s(combiner.pid) - begun
    raw = {
        "turns": small_per_s("turn", pairs, tls=tls),
        "one way": small_per_s("oneway", pairs, tls=tls),
        "1 MiB": bulk_bytes_per_s("up", pairs, large << 20, tls=tls) / (1 << 20),
    }
    counts = {"turns": small, "one way": small, "1 MiB": large}
    rates = {kind: pairs * count / max(seconds[kind] for seconds in told) for kind, count in counts.items()}
    return [
        {
            "bench": "workers",
            "kind": kind,
            "pairs": pairs,
            "tls": tls,
            "per_s": rate,
            "combiner_cpu_s": cpu,
            "raw_per_s": raw[kind],
            "of_raw": rate / raw[kind],
        }
        for kind, rate in rates.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    keys = ("kind", "pairs", "tls", "per_s", "combiner_cpu_s", "raw_per_s", "of_raw")
    columns = ("kind", "pairs", "TLS", "messages/s", "combiner CPU s, all kinds", "raw gRPC messages/s", "of raw")
    return markdown(columns, [[row[key] for key in keys] for row in rows])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("workers", __doc__)
    parser.add_argument("--pairs", type=parse_counts, default=(1, 4), help="of workers [default: 1,4]")
    parser.add_argument("--messages", type=parse_count, default=5_000, help="small ones, in all [default: 5000]")
    parser.add_argument("--frames", type=parse_count, default=400, help="of 1 MiB, in all [default: 400]")
    parser.add_argument("--tls", type=choice, default=(True,), help="on, off or both [default: on]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    rows = []
    for pairs, tls in itertools.product(given.pairs, given.tls):
        found = measure(pairs, given.messages, given.frames, tls=tls)
        for row in found:
            append(given.out, row)
        rows += found
    print(table(rows))
    return 0
