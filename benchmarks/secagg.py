"""Encrypted aggregation: bytes and time a parameter, at clients and on servers, and how exact the sum is.

One thread each. A client encrypts its update and decrypts the global model (TenSEAL); a server checks and adds what
arrives (NumPy), which is compared with what FedAvg adds of the same model in float32. The error is the largest of the
decrypted mean of so many clients' updates, against their mean in float64, beside the bound that plans are checked by:
that of one client of the smallest weight.

  python -m benchmarks secagg --params 100k,1M --degrees 4096
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.cells import CellFailed, Limits, child, run_cell
from benchmarks.counts import format_count, parse_count
from benchmarks.floors.timing import best_s
from benchmarks.options import add_limits, parser_of
from benchmarks.results import Row, append, markdown, say
from fedn.aggregation.fedavg import FedAvg
from fedn.aggregation.secagg import SecAgg
from fedn.models.encrypted import RINGS, Parameters
from fedn.models.wire import ModelSpec, decode, encode, read_spec
from fedn.plan.allocator import SERVER
from fedn.privacy.keys import create_key
from fedn.privacy.models import ModelCipher

_REPEATS = 3
_CLIENTS = 3
_WEIGHT = 300.0
_BOUNDS: dict[int, dict[str, float]] = {
    2048: {"max_clients": 10, "min_weight": 200.0, "max_weight": 700.0, "max_value": 8.0},
    4096: {},
    8192: {},
}
"""By degree: options of the rule that leave an error of a millionth; those of the smallest ciphertexts are narrow."""
_PIECE_BYTES = 1 << 20


def measure(params: int, degree: int) -> Row:
    """One size of model, with one degree of polynomials."""
    key = create_key(degree)
    cipher = ModelCipher(key)
    rule = SecAgg(key_id=key.key_id, degree=degree, **_BOUNDS[degree])
    said = rule.encryption("NumTrainingExamples", {})
    parameters = Parameters(said.key_id, said.degree, said.scale_bits)
    rng = np.random.default_rng(0)
    # In float64, so that the error is that of encryption alone; what FedAvg adds is as it would come, in float32.
    updates = [{"w": rng.normal(size=params)} for _ in range(_CLIENTS)]
    plain = bytes(encode({"w": updates[0]["w"].astype(np.float32)}))
    row: Row = {"bench": "secagg", "params": params, "degree": degree, "clients": _CLIENTS}

    started = time.perf_counter()
    sent = [bytes(cipher.encrypt(update, parameters, weight=_WEIGHT, max_value=said.max_value)) for update in updates]
    row["encrypt_ns"] = (time.perf_counter() - started) / _CLIENTS / params * 1e9
    spec = read_spec(sent[0])
    total = rule.start(spec)
    for data in sent:
        total.add(data, spec, _WEIGHT)
    made = b"".join(map(bytes, total.result(_PIECE_BYTES)))
    started = time.perf_counter()
    mean = decode(cipher.decrypt(made))["w"]
    row["decrypt_ns"] = (time.perf_counter() - started) / params * 1e9
    row["add_ns"] = _adding_s(lambda: rule.start(spec), sent[0], spec) / params * 1e9
    row["fedavg_add_ns"] = _adding_s(lambda: FedAvg().start(read_spec(plain)), plain, read_spec(plain)) / params * 1e9
    row["bytes"] = len(sent[0]) / params
    row["times_float32"] = len(sent[0]) / (4 * params)
    exact = np.mean([update["w"] for update in updates], axis=0)
    row["error"] = float(np.abs(mean - exact).max())
    row["bound"] = parameters.noise / said.min_weight
    say(f"{format_count(params)} parameters, degree {degree}: {row['bytes']:.1f} bytes a parameter")
    return row


def _adding_s(start: Callable[[], Any], data: bytes, spec: ModelSpec) -> float:
    """Seconds in which a further update is checked and added to a sum."""
    total = start()
    total.add(data, spec, _WEIGHT)
    return best_s(lambda: total.add(data, spec, _WEIGHT), _REPEATS)


def table(rows: Sequence[Row]) -> str:
    columns = (
        *("parameters", "degree", "bytes a parameter", "× float32", "encrypt ms/M", "decrypt ms/M", "add ms/M"),
        *("FedAvg adds, ms/M", "largest error", "bound of the plan"),
    )
    return markdown(
        columns,
        [
            [
                *(
                    format_count(row["params"]),
                    str(row["degree"]),
                    f"{row['bytes']:.1f}",
                    f"{row['times_float32']:.2f}",
                ),
                *(f"{row[key]:.1f}" for key in ("encrypt_ns", "decrypt_ns")),
                *(f"{row[key]:.2f}" for key in ("add_ns", "fedavg_add_ns")),
                *(f"{row['error']:.1e}", f"{row['bound']:.1e}"),
            ]
            for row in rows
        ],
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = parser_of("secagg", __doc__)
    parser.add_argument(
        "--params", type=_counts, default=_counts("10k,1M"), help="sizes of the model [default: 10k,1M]"
    )
    parser.add_argument("--degrees", type=_degrees, default=tuple(RINGS), help="of polynomials [default: all]")
    parser.add_argument("--json", action="store_true", help="measure in this process, and print one JSON object")
    add_limits(parser)
    return parser.parse_args(arguments)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(parse_count(part) for part in text.split(","))


def _degrees(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(",") if part.isdecimal())
    if not found or any(degree not in RINGS for degree in found):
        raise argparse.ArgumentTypeError(f"degrees are of {', '.join(map(str, RINGS))}")
    return found


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    grid = [(params, degree) for params in given.params for degree in given.degrees]
    if given.json:
        print(json.dumps({"rows": [measure(params, degree) for params, degree in grid]}))
        return 0
    rows: list[Row] = []
    status = 0
    for params, degree in grid:
        command = child("benchmarks", "secagg", "--json", "--params", params, "--degrees", degree)
        try:
            rows += run_cell(command, limits=Limits(given.timeout, given.min_free), log=given.log, environ=SERVER)[
                "rows"
            ]
        except CellFailed as error:
            print(f"{format_count(params)} parameters, degree {degree}: {error}", file=sys.stderr)
            status = 1
    for row in rows:
        append(given.out, row)
    print(f"\none thread a step, {_CLIENTS} clients\n\n{table(rows)}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
