"""No-op federated rounds over the real programs: what the platform itself costs.

Clients do no training: each adds a constant of its own to the received float32 weights and returns them at once. A
round lasts from its predecessor's commit to its own. Beside it stands the floor, measured right before each cell: the
round's bytes at the speed of raw Python gRPC in the shape of the cell (each of C client processes receives P floats
and sends P floats back), and one durable commit.

  python -m benchmarks rounds --params 1M --clients 10
  python -m benchmarks rounds --params 100k,1M,10M --clients 2,10,50 --combiners 1 --tls both --out results.jsonl

With more than one cell each is a child process; one that needs too long or too much memory is ended and noted.
"""

import argparse
import itertools
import json
import time
from collections.abc import Sequence

from benchmarks.cells import CellFailed, Limits, child, run_cell
from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.federation import Cell, run_session
from benchmarks.floors.cell import floor_of
from benchmarks.options import add_limits, choice, parser_of
from benchmarks.results import Row, append, markdown, say
from benchmarks.targets import FLOOR_FACTOR, TARGETS, passes

_ROUND_TIMEOUT_S = 600.0


def measure(cell: Cell, *, with_floor: bool) -> Row:
    """One cell's row, with its floor where wanted."""
    floor = floor_of(cell.params, cell.clients, cell.combiners, tls=cell.tls) if with_floor else {}
    row = run_session(cell, timeout_s=_ROUND_TIMEOUT_S) | floor
    if with_floor:
        row["of_floor"] = row["round_s"] / row["floor_s"]
    return row


def table(rows: Sequence[Row]) -> str:
    """The cells as Markdown, each with what it costs and whether it keeps its own limits."""
    columns = (
        *("params", "clients", "combiners", "TLS", "round s", "p90 s", "first s"),
        *("floor s", "× floor", f"≤ {FLOOR_FACTOR:g}", "combiner MB", "limit MB", "reducer MB", "max error", "note"),
    )
    return markdown(columns, [_line(row) for row in rows]) + "\n\n" + _parts(rows)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    cells = [
        Cell(params=params, clients=clients, combiners=given.combiners, rounds=given.rounds, tls=tls, plan=given.plan)
        for params, clients, tls in itertools.product(given.params, given.clients, given.tls)
    ]
    if len(cells) == 1:
        row = measure(cells[0], with_floor=given.floor)
        append(given.out, row)
        print(json.dumps(row) if given.json else table([row]))
        return 0
    rows = [_as_child(cell, given) for cell in cells]
    print("\n".join(map(json.dumps, rows)) if given.json else table(rows))
    return 1 if any("failed" in row for row in rows) else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("rounds", __doc__)
    parser.add_argument(
        "--params", type=parse_counts, default=(100_000, 1_000_000), help="sizes of the model [default: 100k,1M]"
    )
    parser.add_argument("--clients", type=parse_counts, default=(2, 10), help="numbers of clients [default: 2,10]")
    parser.add_argument("--combiners", type=int, default=1, help="[default: 1]")
    parser.add_argument("--rounds", type=parse_count, default=10, help="at least 2 [default: 10]")
    parser.add_argument("--tls", type=choice, default=(True,), help="on, off or both [default: on]")
    parser.add_argument(
        "--plan", type=json.loads, default={}, metavar="JSON", help="fields of the session's plan to set"
    )
    parser.add_argument("--no-floor", dest="floor", action="store_false", help="do not measure the cell's floor")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    add_limits(parser)
    given = parser.parse_args(arguments)
    if given.rounds < 2:
        parser.error("--rounds must be at least 2: the first round is told apart")
    if not isinstance(given.plan, dict):
        parser.error("--plan must be a JSON object")
    return given


def _as_child(cell: Cell, given: argparse.Namespace) -> Row:
    command = child(
        "benchmarks",
        *("rounds", "--json", "--params", cell.params, "--clients", cell.clients, "--combiners", cell.combiners),
        *("--rounds", cell.rounds, "--tls", "on" if cell.tls else "off", "--plan", json.dumps(dict(cell.plan))),
        *([] if given.floor else ["--no-floor"]),
    )
    shown = f"{format_count(cell.params)} × {cell.clients}, {'TLS' if cell.tls else 'plain'}"
    begun = time.monotonic()
    try:
        row = run_cell(command, limits=Limits(given.timeout, given.min_free), log=given.log)
        said = f"{row['round_s']:.4g} s a round"
    except CellFailed as error:
        row = {
            "bench": "rounds",
            "system": "fedn",
            "params": cell.params,
            "clients": cell.clients,
            "combiners": cell.combiners,
            "tls": cell.tls,
            "failed": str(error),
        }
        said = f"failed: {error}"
    append(given.out, row)
    say(f"{shown}: {said} ({time.monotonic() - begun:.0f} s in all)")
    return row


def _line(row: Row) -> list[object]:
    cell = (row["params"], row["clients"])
    limit = TARGETS[cell].combiner_mb if cell in TARGETS else None
    return [
        format_count(row["params"]),
        row["clients"],
        row["combiners"],
        row["tls"],
        *(row.get(key) for key in ("round_s", "p90_s", "first_s", "floor_s", "of_floor")),
        passes(row.get("of_floor"), FLOOR_FACTOR),
        row.get("server_rss_mb"),
        limit,
        row.get("reducer_rss_mb"),
        f"{row['max_err']:.1e}" if "max_err" in row else None,
        row.get("failed", ""),
    ]


def _parts(rows: Sequence[Row]) -> str:
    """Where the time of a round goes, and the processors' time."""
    measured = [row for row in rows if "times_ms" in row]
    parts = sorted({name for row in measured for name in row["times_ms"]})
    kinds = list(dict.fromkeys(name for row in measured for name in row["cpu_s"] or {}))
    columns = ["params", "clients", "TLS", *(f"{name} ms" for name in parts), *(f"CPU {kind} ms" for kind in kinds)]
    lines = [
        [
            format_count(row["params"]),
            row["clients"],
            row["tls"],
            *(row["times_ms"].get(name) for name in parts),
            *(1e3 * row["cpu_s"][kind] if row["cpu_s"] else None for kind in kinds),
        ]
        for row in measured
    ]
    return markdown(columns, lines)
