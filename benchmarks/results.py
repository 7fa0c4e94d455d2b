"""Results: one JSON object a line in files, Markdown tables for people."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.counts import format_value

Row = dict[str, Any]


def append(path: Path | None, row: Row) -> None:
    """Adds a line to a results file, with the time; nothing where there is no file."""
    if path is not None:
        line = json.dumps(stamped(row), default=float)
        with path.open("a") as file:
            file.write(line + "\n")


def stamped(row: Row) -> Row:
    """The row with the time at which it was written."""
    return {**row, "when": row.get("when") or time.strftime("%Y-%m-%dT%H:%M:%S")}


def read(path: Path) -> list[Row]:
    """The rows of a results file.

    Raises:
        ValueError: a line is no JSON object; the message says which.
    """
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} of {path} is no JSON object")
        rows.append(row)
    return rows


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, its columns aligned also for reading as text."""
    cells = [[format_value(value) for value in row] for row in rows]
    widths = [max([len(title), 3, *(len(row[place]) for row in cells)]) for place, title in enumerate(columns)]
    lines = [list(columns), ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def say(text: str) -> None:
    """Progress, for whoever watches: to standard error, since standard output is for results."""
    print(text, file=sys.stderr, flush=True)
