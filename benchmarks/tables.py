"""Results files as Markdown tables: `python -m benchmarks table FILE…`; and what all benchmarks' rows are called."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import aggregation, data_plane, floor, housing, idle, relay, rounds, stores
from benchmarks.peers import verdict
from benchmarks.results import Row, read

TABLES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "rounds": rounds.table,
    "housing": housing.table,
    "aggregation": aggregation.table,
    "data_plane": data_plane.table,
    "relay": relay.table,
    "idle": idle.table,
    "stores": stores.table,
    "floor": floor.table,
}
"""Value of `bench` in a row, to what shows such rows."""


def read_all(files: Sequence[Path]) -> list[Row]:
    """The rows of all files that some benchmark of ours wrote, in their order. ValueError, OSError: as `read`."""
    return [row for file in files for row in read(file) if row.get("bench") in TABLES]


def tables(rows: Sequence[Row]) -> str:
    """Everything that the rows say, each benchmark under a heading of its own; peers first, where there are some."""
    parts = []
    if any(row["bench"] == "rounds" and row["system"] != "fedn" for row in rows):
        parts.append(f"## peers\n\n{verdict.table(verdict.verdicts(rows))}")
    for name, table in TABLES.items():
        own = [row for row in rows if row["bench"] == name and row.get("system", "fedn") == "fedn"]
        if own:
            parts.append(f"## {name.replace('_', ' ')}\n\n{table(own)}")
    return "\n\n".join(parts)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks table", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as --out wrote them")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    try:
        rows = read_all(given.files)
    except (OSError, ValueError) as error:
        print(f"the results cannot be read: {error}", file=sys.stderr)
        return 1
    print(tables(rows))
    return 0
