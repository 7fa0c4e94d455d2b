"""The same no-op rounds by Flower 1.8, NVFlare 2.9 and ours, cell by cell in one run: `make bench-peers`.

Each peer gets an environment of its own. One system runs at a time; with --repeat, the systems take turns. NVFlare runs
with the polling periods at which it was found fastest; `nvflare-shipped` among --systems runs it as it comes.

  make bench-peers ARGS="--params 100k,1M --clients 2,10 --repeat 3 --out peers.jsonl"
"""

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.cells import ROOT, CellFailed, Limits, child, run_cell
from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.options import add_limits, names_of, parser_of
from benchmarks.peers.environments import FLOWER, NVFLARE, Peer, python_of
from benchmarks.peers.verdict import table, verdicts
from benchmarks.results import Row, append, say
from benchmarks.targets import TARGETS

_TUNED = ("--period", "0.02", "--fetch", "0.05")
SYSTEMS: Mapping[str, tuple[Peer | None, tuple[str, ...]]] = {
    "flower": (FLOWER, ()),
    "nvflare": (NVFLARE, _TUNED),
    "nvflare-shipped": (NVFLARE, ()),
    "fedn": (None, ("--tls", "on")),
    "fedn-plain": (None, ("--tls", "off", "--no-floor")),
}


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    peers = {SYSTEMS[name][0] for name in given.systems}
    pythons = {peer.name: python_of(peer, given.environments) for peer in peers if peer is not None}
    rows = []
    for (params, clients), turn in itertools.product(_cells(given), range(given.repeat)):
        for name in given.systems if turn % 2 == 0 else reversed(given.systems):
            rows.append(_run(name, params, clients, given, pythons))
            append(given.out, rows[-1])
    found = verdicts(rows)
    print(table(found))
    return 0 if all(one.passed is not False for one in found) else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("peers", __doc__)
    parser.add_argument("--params", type=parse_counts, help="sizes of the model [default: each cell with a target]")
    parser.add_argument("--clients", type=parse_counts, help="numbers of clients")
    parser.add_argument("--combiners", type=int, choices=(1, 2), default=1, help="of ours [default: 1]")
    parser.add_argument("--rounds", type=parse_count, default=8, help="[default: 8]")
    parser.add_argument("--repeat", type=parse_count, default=1, help="times that each system runs [default: 1]")
    parser.add_argument(
        "--systems",
        type=names_of("system", tuple(SYSTEMS)),
        default=("flower", "nvflare", "fedn", "fedn-plain"),
        help=f"of {', '.join(SYSTEMS)} [default: all but nvflare-shipped]",
    )
    parser.add_argument(
        "--environments", type=Path, default=ROOT / ".venv-peers", help="folder of the peers' environments"
    )
    add_limits(parser)
    given = parser.parse_args(arguments)
    if (given.params is None) != (given.clients is None):
        parser.error("give both --params and --clients, or none of them")
    return given


def _cells(given: argparse.Namespace) -> list[tuple[int, int]]:
    return list(TARGETS) if given.params is None else list(itertools.product(given.params, given.clients))


def _run(name: str, params: int, clients: int, given: argparse.Namespace, pythons: Mapping[str, Path]) -> Row:
    peer, extra = SYSTEMS[name]
    size = ("--params", str(params), "--clients", str(clients), "--rounds", str(given.rounds))
    if peer is None:
        command = child("benchmarks", "rounds", "--json", *size, "--combiners", given.combiners, *extra)
    else:
        command = [pythons[peer.name], "-m", peer.module, *size, *extra]
    begun = time.monotonic()
    try:
        row = run_cell(command, limits=Limits(given.timeout, given.min_free), log=given.log)
        said = f"{row['round_s']:.4g} s a round"
    except CellFailed as error:
        row = {"bench": "rounds", "system": "fedn" if peer is None else peer.name, "params": params, "clients": clients}
        row |= {"tls": name == "fedn", "failed": str(error)} | ({"combiners": given.combiners} if peer is None else {})
        said = f"failed: {error}"
    row["variant"] = name
    say(f"{format_count(params)} × {clients}, {name}: {said} ({time.monotonic() - begun:.0f} s in all)")
    return row
