"""Command-line options that benchmarks share."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.proc import MIB


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m benchmarks MODULE`, with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, help="file to which each result is added as a line of JSON")
    return parser


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Options of a grid, whose cells are processes of their own."""
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="ends a cell after so many seconds")
    parser.add_argument(
        "--min-free",
        type=lambda text: int(text) * MIB,
        default=1500 * MIB,
        metavar="MIB",
        help="ends a cell when less memory is left [default: 1500]",
    )
    parser.add_argument(
        "--log", type=Path, default=Path("benchmarks.log"), help="what cells say goes here [default: benchmarks.log]"
    )


def choice(text: str) -> tuple[bool, ...]:
    """`on`, `off` or `both` as the values to measure, the first one first."""
    known = {"on": (True,), "off": (False,), "both": (True, False)}
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is none of: on, off, both")
    return known[text]


def names_of(what: str, known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """For a list of names, `a,b`: each must be one of `known`, which are each a `what`."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {what} {unknown[0]!r}; there are: {', '.join(known)}")
        return names

    return parse
