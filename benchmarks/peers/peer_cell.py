"""What the scripts of all peers share: arguments, and the row of results. Runs in the peers' environments."""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.counts import parse_count


def parser_of(system: str) -> argparse.ArgumentParser:
    """The arguments that every system's script takes."""
    parser = argparse.ArgumentParser(description=f"One cell of no-op rounds by {system}.")
    parser.add_argument("--params", type=parse_count, default=1_000_000)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, help="file to which the result is added as a line of JSON")
    return parser


def report(given: argparse.Namespace, system: str, all_rounds: Sequence[float], **figures: Any) -> None:
    """Prints the row of results as the last line of standard output, and adds it to the file, if there is one.

    Args:
        all_rounds: seconds; the first one is told apart.
        figures: agg_s, server_rss_mb (MiB), max_err and what else the system has to tell.
    """
    row: Mapping[str, Any] = {
        "bench": "rounds",
        "system": system,
        "params": given.params,
        "clients": given.clients,
        "rounds": given.rounds,
        "tls": False,
        "round_s": statistics.median(all_rounds[1:]),
        "first_s": all_rounds[0],
        **figures,
        "all_rounds": list(all_rounds),
    }
    line = json.dumps(row, default=float)
    if given.out is not None:
        with given.out.open("a") as file:
            file.write(line + "\n")
    print(line, flush=True)
