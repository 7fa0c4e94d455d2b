"""Aggregation alone: K updates of P float32 parameters through `fedn.aggregation`, one update at a time.

The floor is what memory allows: each add reads the update, and reads and writes the sum, at the bandwidth measured in
the same run for y += x in the sum's own dtype. `fold` adds to a sum that is in memory already; `fresh` makes a new sum
first, as each round does, so that its pages are touched for the first time (with the allocator settings of a combiner).
`mean` makes the combiner model, piece by piece, as it is sent.

  python -m benchmarks aggregation --params 10M --updates 10 --out results.jsonl
"""

import argparse
import itertools
import json
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.cells import CellFailed, Limits, child, run_cell
from benchmarks.counts import format_count, parse_count
from benchmarks.floors.memory import accumulate_gb_s
from benchmarks.floors.timing import best_s
from benchmarks.noop.workload import make_model, shift_of
from benchmarks.options import add_limits, parser_of
from benchmarks.results import Row, append, markdown
from benchmarks.targets import AGGREGATION_FACTOR, passes
from fedn.aggregation.accumulator import Accumulator
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, decode, encode, read_spec
from fedn.network.frames import CHUNK_BYTES, HEAD_BYTES, encode_pieces
from fedn.plan.allocator import SERVER

_REPEATS = 5
_FLAT_ARRAYS = 5
DTYPES = ("float64", "float32")
WEIGHTS = (1.0, 100.0)


@dataclass(frozen=True)
class Updates:
    """Models as a combiner holds them when they have arrived: in the messages that brought them, all of one layout."""

    models: list[Pieces]
    spec: ModelSpec

    @classmethod
    def make(cls, params: int, count: int) -> "Updates":
        """Update k is the workload's model plus what client k adds."""
        base = make_model(params)
        models = []
        for index in range(count):
            content = encode({f"{name:02d}": array + shift_of(index) for name, array in enumerate(base)})
            models.append(Pieces([memoryview(message)[HEAD_BYTES:] for message in encode_pieces(content)]))
        return cls(models, read_spec(content))

    @property
    def params(self) -> int:
        return sum(tensor.size for tensor in self.spec.tensors)


def measure(updates: Updates, dtype: str, weight: float, gb_s: float) -> Row:
    """One combination's row; times in milliseconds, for all K updates together.

    Args:
        gb_s: measured bandwidth of y += x in `dtype`.
    """
    params, count = updates.params, len(updates.models)
    item_bytes = np.dtype(dtype).itemsize
    fold_floor_s = count * params * (4 + 2 * item_bytes) / (gb_s * 1e9)
    mean_floor_s = params * (4 + item_bytes) / (gb_s * 1e9)
    total = Accumulator(updates.spec, dtype)
    fold_s = best_s(lambda: _add_all(total, updates, weight), _REPEATS)
    mean_s = best_s(lambda: deque(total.result(CHUNK_BYTES), maxlen=0), _REPEATS)
    fresh_s = best_s(lambda: _add_all(Accumulator(updates.spec, dtype), updates, weight), _REPEATS)
    return {
        "bench": "aggregation",
        "params": params,
        "updates": count,
        "sum_dtype": dtype,
        "weight": weight,
        "gb_s": gb_s,
        "fold_ms": fold_s * 1e3,
        "fresh_ms": fresh_s * 1e3,
        "mean_ms": mean_s * 1e3,
        "fold_floor_ms": fold_floor_s * 1e3,
        "of_floor": fold_s / fold_floor_s,
        "fresh_of_floor": fresh_s / fold_floor_s,
        "mean_of_floor": mean_s / mean_floor_s,
        "numpy_ms": _numpy_s(updates, dtype) * 1e3,
        "max_err": _max_error(updates, dtype, weight),
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, each with whether it keeps its limit."""
    columns = (
        *("params", "updates", "sum", "weight", "GB/s", "fold ms", "floor ms", "× floor", f"≤ {AGGREGATION_FACTOR:g}"),
        *("fresh ms", "× floor", "mean ms", "× floor", "plain NumPy ms", "max error"),
    )
    return markdown(columns, [_line(row) for row in rows])


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    if not given.json:
        # The allocator reads its settings when a process starts.
        command = child("benchmarks", "aggregation", "--json", "--params", given.params, "--updates", given.updates)
        limits = Limits(given.timeout, given.min_free)
        try:
            rows: list[Row] = run_cell(command, limits=limits, log=given.log, environ=SERVER)["rows"]
        except CellFailed as error:
            print(f"the aggregation {error}", file=sys.stderr)
            return 1
        for row in rows:
            append(given.out, row)
        print(table(rows))
        return 0
    updates = Updates.make(given.params, given.updates)
    speeds = {dtype: accumulate_gb_s(dtype, given.params, given.updates) for dtype in DTYPES}
    rows = [measure(updates, dtype, weight, speeds[dtype]) for dtype, weight in itertools.product(DTYPES, WEIGHTS)]
    print(json.dumps({"rows": rows}))
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = parser_of("aggregation", __doc__)
    parser.add_argument("--params", type=parse_count, default=10_000_000, help="[default: 10M]")
    parser.add_argument("--updates", type=parse_count, default=10, help="[default: 10]")
    parser.add_argument("--json", action="store_true", help="measure in this process, and print JSON")
    add_limits(parser)
    return parser.parse_args(arguments)


def _add_all(total: Accumulator, updates: Updates, weight: float) -> None:
    for model in updates.models:
        total.add(model, updates.spec, weight)


def _numpy_s(updates: Updates, dtype: str) -> float:
    """Seconds of what one would write without thinking: a sum in the dtype, and `+=` of flat arrays."""
    arrays = [np.full(updates.params, index, np.float32) for index in range(min(_FLAT_ARRAYS, len(updates.models)))]
    total = np.zeros(updates.params, dtype)

    def add_all() -> None:
        for index in range(len(updates.models)):
            np.add(total, arrays[index % len(arrays)], out=total)

    return best_s(add_all, _REPEATS)


def _max_error(updates: Updates, dtype: str, weight: float) -> float:
    """The largest distance of a mean from what it must be."""
    total = Accumulator(updates.spec, dtype)
    _add_all(total, updates, weight)
    mean = decode(b"".join(bytes(piece) for piece in total.result(CHUNK_BYTES)))
    count = len(updates.models)
    shift = np.float32(sum(float(shift_of(index)) for index in range(count)) / count)
    base = make_model(updates.params)
    return float(max(np.abs(mean[f"{name:02d}"] - (array + shift)).max() for name, array in enumerate(base)))


def _line(row: Row) -> list[object]:
    return [
        *(format_count(row["params"]), row["updates"], row["sum_dtype"], f"{row['weight']:g}", row["gb_s"]),
        *(row["fold_ms"], row["fold_floor_ms"], row["of_floor"], passes(row["of_floor"], AGGREGATION_FACTOR)),
        *(row["fresh_ms"], row["fresh_of_floor"], row["mean_ms"], row["mean_of_floor"], row["numpy_ms"]),
        f"{row['max_err']:.1e}",
    ]
