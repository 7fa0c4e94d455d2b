"""What this machine can do, measured with as little in the way as can be: the floors that other figures stand on.

Memory bandwidth and first touches, loopback TCP, raw Python gRPC with and without TLS (bulk, small messages, and the
echo rounds that are the floor of no-op rounds), digests, durable writes.

  python -m benchmarks floor
  python -m benchmarks floor --only echo --params 1M,10M --clients 2,10
"""

import argparse
import itertools
from collections.abc import Callable, Sequence

from benchmarks.counts import format_count, parse_counts
from benchmarks.floors import bulk, disk, memory, sockets
from benchmarks.floors.echo import echo_round_s
from benchmarks.floors.timing import figure
from benchmarks.options import names_of, parser_of
from benchmarks.results import Row, append, markdown

_PARTS: dict[str, Callable[[], list[Row]]] = {
    "memory": memory.measure,
    "tcp": sockets.measure,
    "grpc": bulk.measure,
    "hash": disk.hashing,
    "disk": disk.durable,
}


def table(rows: Sequence[Row]) -> str:
    """The figures as Markdown."""
    return markdown(
        ("test", "what", "value", "unit"), [[row[key] for key in ("test", "what", "value", "unit")] for row in rows]
    )


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    rows = []
    for name in given.only:
        found = _echo(given.params, given.clients) if name == "echo" else _PARTS[name]()
        for row in found:
            append(given.out, row)
        rows += found
    print(table(rows))
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("floor", __doc__)
    names = (*_PARTS, "echo")
    parser.add_argument(
        "--only", type=names_of("part", names), default=names, help=f"of {', '.join(names)} [default: all]"
    )
    parser.add_argument(
        "--params", type=parse_counts, default=(100_000, 1_000_000, 10_000_000), help="of echo [default: 100k,1M,10M]"
    )
    parser.add_argument("--clients", type=parse_counts, default=(2, 10), help="of echo [default: 2,10]")
    return parser.parse_args(arguments)


def _echo(params: Sequence[int], clients: Sequence[int]) -> list[Row]:
    rows = []
    for size, count, tls in itertools.product(params, clients, (True, False)):
        seconds = echo_round_s(size, count, tls=tls)
        what = f"echo round of {format_count(size)} × {count}, {'TLS' if tls else 'no TLS'}"
        rows.append(figure("gRPC", what, seconds * 1e3, "ms"))
        rows.append(figure("gRPC", f"{what}: both ways", 4 * size * 2 * count / seconds / 1e9, "GB/s"))
    return rows
