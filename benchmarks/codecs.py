"""Codecs: what each chain does to accuracy, to the bytes on the wire, and how fast it is.

`effect` trains a network on real data, once through each chain, with the code that combiners and clients run, but in
one process: digits (of scikit-learn) and Fashion-MNIST (Debian's package dataset-fashion-mnist), spread unevenly over
the clients. `speed` encodes, decodes and adds updates of P float32 parameters on one thread, in GB of float32 a second.
What a chain does to the time of whole rounds is measured by `rounds --plan`.

  python -m benchmarks codecs --data digits,fashion --out results.jsonl
  python -m benchmarks codecs --data none --params 10M
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import CellFailed, Limits, child, run_cell
from benchmarks.counts import format_count, parse_count
from benchmarks.floors.timing import best_s
from benchmarks.learning.data import load
from benchmarks.learning.federation import Chains, Federation, Outcome
from benchmarks.noop.workload import make_model
from benchmarks.options import add_limits, names_of, parser_of
from benchmarks.results import Row, append, markdown, say
from fedn.aggregation.accumulator import Accumulator
from fedn.combiner.coding import encode_model, read_update
from fedn.combiner.objects import cut, evenly
from fedn.models.codecs.encode import encode
from fedn.models.codecs.payload import read_model
from fedn.models.digest import digest
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, read_spec
from fedn.models.wire import encode as to_bytes
from fedn.network.frames import CHUNK_BYTES, HEAD_BYTES, encode_pieces
from fedn.network.generated import common_pb2 as wire
from fedn.plan.allocator import SERVER
from fedn.plan.chains import check_chains, make_chain
from fedn.plan.session import SessionPlan

_REPEATS = 5
_LAST_ROUNDS = 5
"""Accuracy is the mean of so many rounds at the end: single ones go up and down."""
DATA = ("digits", "fashion", "none")
_LEARNING_RATES = {"digits": 0.1, "fashion": 0.05}


def _topk(fraction: float, **options: Any) -> dict[str, Any]:
    return {"name": "topk", "options": {"fraction": fraction, **options}}


_FORGETFUL = {"name": "int8", "options": {"error_feedback": False}}
CHAINS: dict[str, tuple[list[Any], list[Any]]] = {
    "none": ([], []),
    "zstd": (["zstd"], ["zstd"]),
    "bfloat16": (["bfloat16"], ["bfloat16"]),
    "float16": (["float16"], ["float16"]),
    "delta, bfloat16": (["delta", "bfloat16"], ["bfloat16"]),
    "delta, bfloat16, zstd": (["delta", "bfloat16", "zstd"], ["bfloat16", "zstd"]),
    "int8, no delta": (["int8"], ["bfloat16"]),
    "delta, int8": (["delta", "int8"], ["bfloat16"]),
    "delta, int8, no feedback": (["delta", _FORGETFUL], ["bfloat16"]),
    "delta, int8; models int8": (["delta", "int8"], ["int8"]),
    "delta, topk 0.1": (["delta", _topk(0.1)], ["bfloat16"]),
    "delta, topk 0.01": (["delta", _topk(0.01)], ["bfloat16"]),
    "delta, topk 0.01, no feedback": (["delta", _topk(0.01, error_feedback=False)], ["bfloat16"]),
    "delta, topk 0.01, int8, zstd": (["delta", _topk(0.01), "int8", "zstd"], ["bfloat16"]),
}
"""The codecs of updates and of models, by the name in the tables."""


def chains_of(name: str) -> Chains:
    updates, models = CHAINS[name]
    plan = check_chains(SessionPlan.model_validate({"update_chain": updates, "model_chain": models}))
    return Chains(plan.update_chain, plan.model_chain)


def effect(name: str, data_name: str, given: argparse.Namespace) -> Row:
    """One training through a chain."""
    data = load(data_name)
    with tempfile.TemporaryDirectory(prefix="fedn-bench-") as folder:
        federation = Federation(
            data,
            chains_of(name),
            clients=given.clients,
            learning_rate=_LEARNING_RATES[data_name],
            folder=Path(folder),
            seed=given.seed,
        )
        for _ in range(given.rounds):
            federation.round()
    row = _effect_row(name, data_name, federation.outcome)
    say(f"{data_name} through {name}: {row['accuracy']:.4f}")
    return row


def _effect_row(name: str, data_name: str, outcome: Outcome) -> Row:
    rounds = len(outcome.accuracies)
    answers = rounds * outcome.clients
    return {
        "bench": "codecs",
        "kind": "effect",
        "data": data_name,
        "chain": name,
        "clients": outcome.clients,
        "rounds": rounds,
        "accuracy": statistics.mean(outcome.accuracies[-_LAST_ROUNDS:]),
        "accuracies": outcome.accuracies,
        "up_bytes": outcome.sent_bytes / answers,
        "down_bytes": outcome.received_bytes / answers,
        "client_ms": outcome.client_ms / answers,
        "combiner_ms": outcome.combiner_ms / rounds,
    }


def speed(name: str, params: int) -> Row:
    """How fast a chain is, each step by itself, in GB of float32 a second; the best of some tries."""
    chains = chains_of(name)
    base = to_bytes({f"{index:02d}": array for index, array in enumerate(make_model(params))})
    spec, base_id = read_spec(base), digest(base)
    tensors = {key: array * array.dtype.type(1.01) for key, array in decode(base).items()}
    row: Row = {"bench": "codecs", "kind": "speed", "chain": name, "params": params}

    def measured(key: str, work: Callable[[], object]) -> None:
        row[key] = 4 * params / best_s(work, _REPEATS) / 1e9

    form, total = "model", Accumulator(spec, "float64", base)
    data: bytes | bytearray | memoryview = to_bytes(tensors)
    if chains.updates:
        encoding = make_chain(chains.updates).of(spec, base_id)
        start = None
        if encoding.chain.difference is not None:
            form, start = "delta", {key: array.reshape(-1) for key, array in decode(base).items()}
        measured("encode_update", lambda: encode(encoding, tensors, start=start))
        data = encode(encoding, tensors, start=start)
        arrived = _arrived(data)
        measured("add_update", lambda: total.add_encoded(read_update(encoding, arrived), 100.0, form=form))
    else:
        measured("encode_update", lambda: to_bytes(tensors))
        arrived, like = _arrived(data), read_spec(data)
        measured("add_update", lambda: total.add(arrived, like, 100.0))
    row["up_share"] = len(data) / len(base)
    row["down_share"] = 1.0
    if chains.models:
        stored = cut(wire.OBJECT_KIND_MODEL, evenly(Pieces.of(base)), "blake3")
        measured("encode_model", lambda: encode_model(stored, chains.models))
        sent = encode_model(stored, chains.models).bytes_in_pieces().copy()
        chain = make_chain(chains.models)
        measured("decode_model", lambda: read_model(chain, sent, max_bytes=2 * len(base))[1].decode())
        row["down_share"] = len(sent) / len(base)
    return row


def _arrived(data: bytes | bytearray | memoryview) -> Pieces:
    """In the messages that would have brought it."""
    return Pieces([memoryview(message)[HEAD_BYTES:] for message in encode_pieces(data, 0, CHUNK_BYTES)])


def effect_table(rows: Sequence[Row]) -> str:
    columns = ("chain", "accuracy", "± none", "kB up", "of none", "kB down", "of none", "client ms", "combiner ms")
    lines = []
    plain = next((row for row in rows if row["chain"] == "none"), rows[0])
    for row in rows:
        up, down = row["up_bytes"] / plain["up_bytes"], row["down_bytes"] / plain["down_bytes"]
        lines.append(
            [
                row["chain"],
                f"{row['accuracy']:.4f}",
                f"{row['accuracy'] - plain['accuracy']:+.4f}",
                *(f"{row['up_bytes'] / 1e3:.1f}", f"{up:.3f}", f"{row['down_bytes'] / 1e3:.1f}", f"{down:.3f}"),
                *(f"{row['client_ms']:.2f}", f"{row['combiner_ms']:.2f}"),
            ]
        )
    return markdown(columns, lines)


def speed_table(rows: Sequence[Row]) -> str:
    columns = ("chain", "of 4·P up", "encode GB/s", "check and add GB/s", "of 4·P down", "encode GB/s", "decode GB/s")
    return markdown(
        columns,
        [
            [
                row["chain"],
                f"{row['up_share']:.4f}",
                *(f"{row[key]:.1f}" for key in ("encode_update", "add_update")),
                f"{row['down_share']:.4f}",
                *(f"{row[key]:.1f}" if key in row else "" for key in ("encode_model", "decode_model")),
            ]
            for row in rows
        ],
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = parser_of("codecs", __doc__)
    parser.add_argument("--data", type=names_of("data set", DATA), default=("digits",), help="[default: digits]")
    parser.add_argument("--clients", type=int, default=10, help="[default: 10]")
    parser.add_argument("--rounds", type=parse_count, default=40, help="[default: 40]")
    parser.add_argument("--seed", type=int, default=0, help="[default: 0]")
    parser.add_argument(
        "--params", type=parse_count, default=parse_count("10M"), help="size of the model for speed [default: 10M]"
    )
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="leave the speed out")
    parser.add_argument("--json", action="store_true", help="measure in this process, and print one JSON object")
    add_limits(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    effects = {name: [effect(chain, name, given) for chain in CHAINS] for name in given.data if name != "none"}
    if given.json:
        speeds = [speed(chain, given.params) for chain in CHAINS] if given.speed else []
        print(json.dumps({"rows": [*itertools.chain(*effects.values()), *speeds]}, default=float))
        return 0
    for name, rows in effects.items():
        _report(f"{name}, {given.clients} clients, {given.rounds} rounds", effect_table, rows, given)
    if not given.speed:
        return 0
    # In a process with the allocator of a combiner: where memory is fresh, its first touch costs more than a codec.
    command = child("benchmarks", "codecs", "--json", "--data", "none", "--params", given.params)
    try:
        rows = run_cell(command, limits=Limits(given.timeout, given.min_free), log=given.log, environ=SERVER)["rows"]
    except CellFailed as error:
        print(f"the speed {error}", file=sys.stderr)
        return 1
    _report(f"{format_count(given.params)} parameters, one thread", speed_table, rows, given)
    return 0


def _report(title: str, table: Callable[[Sequence[Row]], str], rows: Sequence[Row], given: argparse.Namespace) -> None:
    for row in rows:
        append(given.out, row)
    print(f"\n{title}\n\n{table(rows)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
