"""What commands print: tables and pairs for people, JSON for programs. Messages of failure live in `failures`."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from fedn.protocol.rest import as_json


class Output:
    """Prints a command's result once, in the form that was asked for."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def data(self, value: Any) -> None:
        """A payload, or lists and mappings of payloads, as indented JSON; only for `--json`."""
        click.echo(json.dumps(as_json(value), indent=2, ensure_ascii=False))

    def line(self, value: Any) -> None:
        """The same in one line, for streams of values."""
        click.echo(json.dumps(as_json(value), ensure_ascii=False))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        """Columns as wide as their content. `empty` is said where there are no rows."""
        texts = [[_cell(value) for value in row] for row in rows]
        if not texts:
            click.echo(empty)
            return
        widths = [max(len(row[column]) for row in [list(headings), *texts]) for column in range(len(headings))]
        click.secho(_columns([heading.upper() for heading in headings], widths), bold=True)
        for row in texts:
            click.echo(_columns(row, widths))

    def pairs(self, values: Mapping[str, object]) -> None:
        """One `name  value` a line."""
        width = max(len(name) for name in values)
        for name, value in values.items():
            click.echo(f"{click.style(name.ljust(width), bold=True)}  {_cell(value)}")

    def say(self, text: str) -> None:
        """A sentence for people; left out with --json."""
        if not self.json:
            click.echo(text)


def _columns(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None or value == "" else str(value)


def short_id(digest: str) -> str:
    """The start of a digest, long enough to tell models apart in a table."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:12]}…" if len(digits) > 12 else digest


def when(unix_s: float | None) -> str:
    """A point in time as local date and time; how long ago where it was today."""
    if not unix_s:
        return "-"
    ago = time.time() - unix_s
    if 0 <= ago < 86400:
        return f"{duration(ago)} ago"
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """Seconds in words: 0.35 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(size_bytes: int | None) -> str:
    """Bytes in binary units."""
    if size_bytes is None:
        return "-"
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def metrics(values: Mapping[str, float]) -> str:
    """`accuracy 0.951, loss 0.21`."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
