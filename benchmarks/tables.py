"""Results files as Markdown tables: `python -m benchmarks table FILE…`; and what all benchmarks' rows are called."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    aggregation,
    codecs,
    data_plane,
    floor,
    housing,
    idle,
    relay,
    rounds,
    scale,
    secagg,
    simulate,
    soak,
    stores,
    workers,
)
from benchmarks.convergence import study
from benchmarks.counts import format_count
from benchmarks.peers import verdict
from benchmarks.results import Row, read


def _codecs_table(rows: Sequence[Row]) -> str:
    """Its two kinds of rows: accuracy and bytes for each data set, then speed for each size of the model."""
    effects = [row for row in rows if row["kind"] == "effect"]
    speeds = [row for row in rows if row["kind"] == "speed"]
    parts = [
        f"{data}:\n\n{codecs.effect_table([row for row in effects if row['data'] == data])}"
        for data in dict.fromkeys(row["data"] for row in effects)
    ]
    parts += [
        f"{format_count(params)} parameters, one thread:\n\n"
        + codecs.speed_table([row for row in speeds if row["params"] == params])
        for params in dict.fromkeys(row["params"] for row in speeds)
    ]
    return "\n\n".join(parts)


TABLES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "rounds": rounds.table,
    "housing": housing.table,
    "aggregation": aggregation.table,
    "codecs": _codecs_table,
    "secagg": secagg.table,
    "data_plane": data_plane.table,
    "relay": relay.table,
    "workers": workers.table,
    "idle": idle.table,
    "scale": scale.table,
    **study.TABLES,
    "simulate": simulate.table,
    "soak": soak.table,
    "stores": stores.table,
    "floor": floor.table,
}
"""Value of `bench` in a row, to what shows such rows."""


_TABLE = re.compile(r"(?P<begin><!-- table (?P<name>\w+) -->)\n.*?(?P<end><!-- end of table -->)", re.DOTALL)


def read_all(files: Sequence[Path]) -> list[Row]:
    """The rows of all files that some benchmark of ours wrote, in their order. ValueError, OSError: as `read`."""
    return [row for file in files for row in read(file) if row.get("bench") in TABLES]


def sections(rows: Sequence[Row]) -> dict[str, str]:
    """The table of each benchmark that has rows, by its name; peers first, where there are some."""
    found = {}
    if any(row["bench"] == "rounds" and row["system"] != "fedn" for row in rows):
        found["peers"] = verdict.table(verdict.verdicts(rows))
    for name, table in TABLES.items():
        own = [row for row in rows if row["bench"] == name and row.get("system", "fedn") == "fedn"]
        if own:
            found[name] = table(own)
    return found


def tables(rows: Sequence[Row]) -> str:
    """Everything that the rows say, each benchmark under a heading of its own."""
    return "\n\n".join(f"## {name.replace('_', ' ')}\n\n{table}" for name, table in sections(rows).items())


def put_into(page: str, rows: Sequence[Row]) -> str:
    """A page with its tables made anew: each stands between `<!-- table NAME -->` and `<!-- end of table -->`.

    A table of which the rows say nothing stays as it is.
    """
    found = sections(rows)

    def replaced(match: re.Match[str]) -> str:
        table = found.get(match["name"])
        return match[0] if table is None else f"{match['begin']}\n\n{table}\n\n{match['end']}"

    return _TABLE.sub(replaced, page)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks table", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as --out wrote them")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="renew the tables of this Markdown page instead")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    try:
        rows = read_all(given.files)
        if given.into is not None:
            given.into.write_text(put_into(given.into.read_text(), rows))
            return 0
    except (OSError, ValueError) as error:
        print(f"the results cannot be read: {error}", file=sys.stderr)
        return 1
    print(tables(rows))
    return 0
