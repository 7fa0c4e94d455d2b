"""Rounds of 100,000 and of 1,000,000 clients, carried on from measured ones by the simulator (`benchmarks.simulator`).

Its costs are fitted to the runs of `benchmarks scale` at the sizes of --fit; at the sizes of --held-out the same runs
say how far it is off. Without --runs it takes the record that comes with the code. Then rounds over three tiers on
hosts of their own: how long they take, what each tier does, and the first limit that such a round runs into.

  python -m benchmarks simulate --fit 1k,5k --held-out 2500,10k --clients 100k,1M
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.calibration import compare, fit
from benchmarks.counts import format_count, parse_count, parse_counts
from benchmarks.options import parser_of
from benchmarks.results import Row, append, markdown, read
from benchmarks.simulator import Costs, Federation, simulate
from fedn.network.convert import spec_to_wire
from fedn.network.frames import MAX_MESSAGE_BYTES
from fedn.protocol.rounds import Contribution, RoundSpec
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec
from fedn.protocol.trail import canonical_json

RECORD = Path(__file__).resolve().parent / "records" / "scale.jsonl"
_MIB = 1 << 20
_MONGODB_DOCUMENT_BYTES = 16 * _MIB
"""A trail entry is one document of the state store."""
_SQLITE_VALUE_BYTES = 1_000_000_000
_CLIENTS_OF_A_COMBINER = 10_000
"""`max_clients` of a combiner, unless set."""
_DIGEST = "blake3:" + "0" * 64


def runs_of(rows: Sequence[Row], sizes: Sequence[int]) -> list[Row]:
    """The last run with one combiner of each size, in the order of the sizes.

    Raises:
        ValueError: there is none of a size.
    """
    found = {row["clients"]: row for row in rows if row.get("bench") == "scale" and row["combiners"] == 1}
    if missing := [format_count(size) for size in sizes if size not in found]:
        raise ValueError(f"there is no run of {', '.join(missing)} clients on one combiner among the results")
    return [found[size] for size in sizes]


def bytes_of_client(name: str = "site-0000001") -> dict[str, int]:
    """What one client of a round adds to the trail entry (JSON), and to the message that starts the round (wire)."""
    contribution = Contribution(client=name, update_id=_DIGEST, num_examples=1000, weight=1000.0)
    task = TaskSpec(
        task_id=f"s-20260101-000000-abcdef/0/train/000000000000/{name}",
        client=name,
        kind=TaskKind.TRAIN,
        model_id=_DIGEST,
    )
    round_name = RoundName(session="s-20260101-000000-abcdef", index=0, attempt=0, epoch=1)

    def start_bytes(tasks: tuple[TaskSpec, ...]) -> int:
        return spec_to_wire(RoundSpec(name=round_name, tasks=tasks, deadline_s=60.0)).ByteSize()

    return {
        "entry": len(canonical_json(contribution.model_dump(mode="json"))) + 1,
        "start": start_bytes((task,)) - start_bytes(()),
    }


def predict(federation: Federation, costs: Costs, *, attached_kb: float, empty_mb: float) -> Row:
    """One round, and which limits it comes near.

    Args:
        attached_kb: memory of a combiner for each attached client.
        empty_mb: of a combiner without clients.
    """
    outcome = simulate(federation, costs)
    each = bytes_of_client()
    entry_bytes = each["entry"] * federation.clients
    most = math.ceil(federation.clients / federation.combiners)
    limits = []
    if entry_bytes > _MONGODB_DOCUMENT_BYTES:
        limits.append(
            f"trail entry over MongoDB's document of 16 MiB from {_MONGODB_DOCUMENT_BYTES // each['entry']} on"
        )
    if entry_bytes > _SQLITE_VALUE_BYTES:
        limits.append("trail entry over SQLite's value of 1 GB")
    if each["start"] * most > MAX_MESSAGE_BYTES:
        limits.append(f"start of the round over a message of {MAX_MESSAGE_BYTES // _MIB} MiB")
    if most > _CLIENTS_OF_A_COMBINER:
        limits.append("max_clients of a combiner must be raised")
    return {
        "clients": federation.clients,
        "combiners": federation.combiners,
        "hosts": federation.hosts,
        "round_s": outcome.round_s,
        "longest": outcome.longest,
        "reducer_s": outcome.busy_s["reducer"],
        "combiner_s": outcome.busy_s["combiners"] / federation.combiners,
        "link_s": max(outcome.busy_s["down"], outcome.busy_s["up"]) / federation.hosts,
        "combiner_mb": empty_mb + attached_kb * most / 1024,
        "entry_mb": entry_bytes / _MIB,
        "start_mb": each["start"] * most / _MIB,
        "limits": limits,
    }


def _choices(clients: int, cores: int) -> list[tuple[int, int]]:
    """(combiners, of them on a host): as many as are needed, and as many as the reducer can keep busy and more."""
    least = max(1, -(-clients // _CLIENTS_OF_A_COMBINER))
    return [(count, min(cores, count)) for count in (least, 2 * least, 5 * least)]


def table(rows: Sequence[Row]) -> str:
    """The last row as Markdown tables: costs, errors, predictions."""
    row = rows[-1]
    costs = [
        (name.removesuffix("_s").replace("_", " "), 1e3 * value)
        for name, value in row["costs"].items()
        if name.endswith("_s")
    ]
    parts = [
        markdown(
            ("processor time of", "ms"), [*costs, ("measured / simulated round (a factor)", row["costs"]["stretch"])]
        ),
        markdown(
            (
                "clients",
                "combiners",
                "fitted",
                "round s",
                "simulated",
                "error %",
                "combiner CPU s",
                "simulated",
                "error %",
                "reducer CPU s",
                "simulated",
                "error %",
            ),
            [_compared(one) for one in row["compared"]],
        ),
        markdown(
            (
                "clients",
                "combiners",
                "hosts",
                "round s",
                "bound by",
                "reducer s",
                "each combiner s",
                "each link s",
                "combiner MB",
                "trail entry MB",
                "limits",
            ),
            [_predicted(one) for one in row["predictions"]],
        ),
    ]
    return "\n\n".join(parts)


def _compared(one: Row) -> list[object]:
    figures = [
        value
        for name in ("round_s", "combiner_cpu_s", "reducer_cpu_s")
        for value in (one["measured"][name], one["predicted"][name], 100 * one["error"][name])
    ]
    return [format_count(one["clients"]), one["combiners"], one["fitted"], *figures]


def _predicted(one: Row) -> list[object]:
    keys = ("round_s", "longest", "reducer_s", "combiner_s", "link_s", "combiner_mb", "entry_mb")
    return [
        format_count(one["clients"]),
        one["combiners"],
        one["hosts"],
        *(one[key] for key in keys),
        "; ".join(one["limits"]) or "–",
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("simulate", __doc__)
    parser.add_argument("--runs", type=Path, default=RECORD, help="results of `scale` [default: the record]")
    parser.add_argument("--fit", type=parse_counts, default=(1_000, 5_000), help="[default: 1k,5k]")
    parser.add_argument("--held-out", type=parse_counts, default=(2_500, 10_000), help="[default: 2500,10k]")
    parser.add_argument(
        "--clients", type=parse_counts, default=(10_000, 100_000, 1_000_000), help="[default: 10k,100k,1M]"
    )
    parser.add_argument(
        "--params", type=parse_count, default=100_000, help="size of the model, as in the runs [default: 100k]"
    )
    parser.add_argument("--train-s", type=float, default=0.0, help="seconds that a client trains [default: 0]")
    parser.add_argument(
        "--host-cores", type=parse_count, default=2, help="of a combiner host, a combiner each [default: 2]"
    )
    parser.add_argument("--host-gbit", type=float, default=10.0, help="link of a combiner host [default: 10]")
    parser.add_argument("--client-mbit", type=float, default=100.0, help="link of a client [default: 100]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    try:
        rows = read(given.runs)
        fitted, held_out = runs_of(rows, given.fit), runs_of(rows, given.held_out)
    except (OSError, ValueError) as error:
        print(f"{given.runs}: {error}", file=sys.stderr)
        return 2
    costs = fit(fitted)
    several = [row for row in rows if row.get("bench") == "scale" and row["combiners"] > 1]
    carried = Costs(**{**asdict(costs), "client_s": given.train_s})
    predictions = []
    for clients in given.clients:
        for combiners, a_host in _choices(clients, given.host_cores):
            federation = Federation(
                clients=clients,
                combiners=combiners,
                combiners_per_host=a_host,
                host_cores=float(given.host_cores),
                model_bytes=4.0 * given.params,
                link_bytes_per_s=given.host_gbit * 1e9 / 8,
                client_bytes_per_s=given.client_mbit * 1e6 / 8,
            )
            largest = max((*fitted, *held_out), key=lambda row: int(row["clients"]))
            predictions.append(
                predict(
                    federation, carried, attached_kb=largest["kb_per_client"], empty_mb=largest["combiner_mb"]["empty"]
                )
            )
    row: Row = {
        "bench": "simulate",
        "costs": asdict(costs),
        "compared": [{**compare(one, costs), "fitted": one in fitted} for one in (*fitted, *held_out, *several)],
        "predictions": predictions,
    }
    append(given.out, row)
    print(table([row]))
    return 0
