"""A convergence study: schedulers on sites of different speeds, algorithms on sites of different data.

Each session is that of a real federation: a reducer, a combiner, clients with their workers, TLS between them. One
federation is started for each data set, and trains one session after another. What the file named by --out has already
is not measured again: a run that ended early goes on where it was.

  python -m benchmarks convergence --data digits --out results.jsonl
  python -m benchmarks convergence --data fashion --parts schedulers --seeds 1
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.convergence import methods, schedulers
from benchmarks.convergence.federation import PROBLEMS, open_federation
from benchmarks.convergence.record import Record
from benchmarks.counts import parse_count
from benchmarks.options import names_of, parser_of
from benchmarks.results import Row

PARTS = ("schedulers", "methods")
TABLES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    schedulers.BENCH: schedulers.table,
    methods.BENCH: methods.table,
    methods.GRID_BENCH: methods.grid_table,
}
"""Value of `bench` in a row, to what shows such rows."""


def measure(data: str, given: argparse.Namespace, record: Record) -> None:
    """The rows of a data set, into the record as they come."""
    seeds = range(1, given.seeds + 1)
    with open_federation(PROBLEMS[data], given.clients) as federation:
        if "schedulers" in given.parts:
            schedulers.run(federation, data, record, names=given.only, seeds=seeds, seconds=given.seconds)
        if "methods" in given.parts:
            methods.run(
                federation, data, record, names=given.only, settings=given.settings, seeds=seeds, rounds=given.rounds
            )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("convergence", __doc__)
    parser.add_argument("--data", type=names_of("data set", tuple(PROBLEMS)), default=("digits",), help="[digits]")
    parser.add_argument("--parts", type=names_of("part", PARTS), default=PARTS, help=f"[default: {','.join(PARTS)}]")
    parser.add_argument(
        "--settings",
        type=_settings,
        default=tuple(methods.SETTINGS),
        metavar="NAME;…",
        help=f"of the methods: {'; '.join(methods.SETTINGS)} [default: all]",
    )
    parser.add_argument("--clients", type=parse_count, default=10, help="[default: 10]")
    parser.add_argument("--seeds", type=parse_count, default=3, help="how many, from 1 on [default: 3]")
    parser.add_argument("--seconds", type=float, help="of a scheduler's session [default: the data set's]")
    parser.add_argument("--rounds", type=parse_count, help="of a method's session [default: the setting's]")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(part.strip() for part in text.split(",")),
        metavar="NAME,…",
        help="of schedulers and methods, as tables have them [default: all]",
    )
    given = parser.parse_args(arguments)
    known = (*schedulers.arms(given.clients), *methods.METHODS)
    given.only = known if given.only is None else given.only
    if unknown := [name for name in given.only if name not in known]:
        parser.error(f"there is no scheduler and no method {unknown[0]!r}; there are: {', '.join(known)}")
    return given


def _settings(text: str) -> tuple[str, ...]:
    """Names, which have commas in them, with semicolons between."""
    names = tuple(part.strip() for part in text.split(";"))
    if unknown := [name for name in names if name not in methods.SETTINGS]:
        known = "; ".join(methods.SETTINGS)
        raise argparse.ArgumentTypeError(f"there is no setting {unknown[0]!r}; there are: {known}")
    return names


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    record = Record(given.out)
    for data in given.data:
        measure(data, given, record)
    for bench, table in TABLES.items():
        if own := [row for row in record.rows if row["bench"] == bench]:
            print(table(own), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
