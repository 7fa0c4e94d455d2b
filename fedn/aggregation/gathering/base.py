"""Updates that are kept whole until all are there, and what a rule over them is.

Each waits as a row: a model in the layout and the dtypes of combiner models (`mean_layout`), whatever it went through
on its way. So the rows of several combiners are alike, and the rule over all of them is that over the rows of one.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np

from fedn.aggregation.base import Rule
from fedn.aggregation.checks import check_weight
from fedn.aggregation.combine import does_not_fit, mean_layout
from fedn.aggregation.extra import Extra
from fedn.aggregation.numerics import is_floating, store_mean
from fedn.aggregation.plain import PlainModels
from fedn.aggregation.rows import RowMaker
from fedn.aggregation.values import PlainValues, UpdateValues
from fedn.models.codecs.base import PIECE, Check, Flat
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer, Hasher
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, TensorInfo, differences, header_size, read_spec
from fedn.plan.option_values import OptionValues
from fedn.protocol.errors import InvalidInput
from fedn.protocol.tasks import UpdateMetadata

MATRIX_ELEMENTS = 1 << 20
"""Elements of all rows that are looked at together, about: 8 MiB in float64, however many rows there are."""

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Scope = Literal["global", "combiner"]


class Spill(Protocol):
    """Where rows wait, one behind the other."""

    def append(self, row: memoryview) -> None:
        """Keeps a copy. LimitExceeded (`spool_full`) where there is no room; then nothing is kept."""

    def whole(self) -> memoryview:
        """All that was appended. No more may follow."""


class Rows:
    """Updates, whole, with their weights, in an order that depends on them alone.

    Args:
        models: the bytes of each, like combiner models of this base.
        weights: of each, > 0.
        base_model: the base model's bytes, for a rule whose `over_needs_base` says so.
    """

    def __init__(
        self,
        models: Sequence[Pieces],
        weights: Sequence[float],
        base: ModelSpec,
        base_model: Buffer | Pieces | None = None,
    ) -> None:
        self.base = base
        self.base_model = base_model
        self.spec = mean_layout(base).spec
        self.floating = {tensor.name: is_floating(tensor.dtype) for tensor in base.tensors}
        """By tensor, whether it is one of floating-point numbers in the model."""
        if not models:
            raise InvalidInput("no_updates", "There is no aggregate of no updates")
        ranked = sorted(zip(map(_rank, models), range(len(models)), strict=True))
        self._rows = [_row(models[at], self.spec) for _, at in ranked]
        self.weights: Vector = np.array([weights[at] for _, at in ranked], np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def updates(self) -> Sequence[UpdateValues]:
        """Each by itself."""
        return self._rows

    def matrices(self, tensor: TensorInfo, start: int, stop: int) -> Iterator[tuple[int, Matrix]]:
        """(first element, values) of elements [start, stop) of a tensor, in parts: (rows, elements) in float64.

        A matrix may be overwritten; it is good until the next one is asked for.
        """
        width = min(stop - start, PIECE, max(1, MATRIX_ELEMENTS // len(self)))
        room = np.empty((len(self), width), np.float64)
        for first in range(start, stop, width):
            matrix = room[:, : min(width, stop - first)]
            for values, row in zip(matrix, self._rows, strict=True):
                values[:] = row.read(tensor.name, first, first + len(values))
            yield first, matrix


def _rank(model: Pieces) -> str:
    hasher = Hasher()
    for view in model.views():
        hasher.update(view)
    return hasher.digest()


def _row(model: Pieces, expected: ModelSpec) -> PlainValues:
    spec = read_spec(model.copy(0, header_size(model.copy(0, 8)) or 0), len(model))
    if faults := differences(spec, expected):
        raise does_not_fit("A forwarded update", "; ".join(faults[:20]))
    return PlainValues(model, spec)


class GatheringOptions(OptionValues):
    """What every rule over all updates knows."""

    scope: Scope
    """`global`: combiners forward all updates, and the rule is over all clients; `combiner`: over the clients of each
    combiner, and the reducer takes the weighted mean of what comes of it."""


class GatheringRule(Rule, Protocol):
    """A rule over rows. `start` is not for it; `gather` is."""

    scope: Scope
    min_updates: int
    """Without so many updates there is no result."""
    weighs: bool
    """Whether the updates' weights count."""
    over_needs_base: bool
    """Whether `over` looks at the base model's bytes."""

    def over(self, rows: Rows) -> UpdateValues:
        """The result, which `read` works out in float64. InvalidInput (`too_few_updates`)."""

    def gather(self, base: ModelSpec, base_model: Buffer | Pieces, spill: Spill) -> "Gathered": ...


class Gathering(PlainModels, ABC):
    """What rules over rows have in common."""

    name: str
    decomposable = False
    needs: frozenset[Check] = frozenset({Check.VALUES})
    required: frozenset[str] = frozenset()
    needs_base = True
    gathers = True
    lineage = 0
    takes_sparse = True
    extras: Sequence[Extra] = ()
    hands_up = None
    weighs = False
    over_needs_base = False
    is_numeric = True
    min_updates = 1
    scope: Scope
    Options: ClassVar[type[OptionValues]]

    @property
    def weighted_only(self) -> bool:
        return self.scope == "global"

    def share_of(self, metadata: UpdateMetadata) -> float:
        return 1.0

    def part_shares(self, parts: Sequence[Sequence[tuple[float, UpdateMetadata]]]) -> Sequence[float] | None:
        return None

    def start(self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None) -> Any:
        raise InvalidInput("bad_rule", f"The rule {self.name} gathers updates, and adds nothing up")

    def gather(self, base: ModelSpec, base_model: Buffer | Pieces, spill: Spill) -> "Gathered":
        return Gathered(self.over, base, base_model, spill)

    @abstractmethod
    def over(self, rows: Rows) -> UpdateValues:
        """As `GatheringRule.over`."""

    def check_count(self, rows: Rows) -> None:
        if len(rows) < self.min_updates:
            raise InvalidInput(
                "too_few_updates",
                f"the rule {self.name} needs {self.min_updates} updates at least, and there are {len(rows)}",
                fix="Raise clients_required, or let the rule stand fewer faulty clients.",
            )


class Gathered:
    """The rows of one combiner; an `Aggregate`. `result` gives the rule over them, `rows` all of them.

    Args:
        over: the rule.
        base, base_model: of the round.
        spill: where rows wait; closed by who made it.
    """

    def __init__(self, over: Any, base: ModelSpec, base_model: Buffer | Pieces, spill: Spill) -> None:
        self._over = over
        self._base = base
        self._maker = RowMaker(base, base_model)
        self._spill = spill
        self._weights: list[float] = []

    @property
    def weight(self) -> float:
        return math.fsum(self._weights)

    @property
    def count(self) -> int:
        return len(self._weights)

    @property
    def row_bytes(self) -> int:
        return self._maker.spec.size_bytes

    def add(
        self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model", share: float = 1.0
    ) -> None:
        check_weight(weight)
        self._keep(self._maker.plain(update, spec, form), weight)

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model", share: float = 1.0) -> None:
        check_weight(weight)
        self._keep(self._maker.encoded(payload, form), weight)

    def _keep(self, row: memoryview, weight: float) -> None:
        self._spill.append(row)
        self._weights.append(weight)

    def merge(self, other: Self) -> None:
        if other._maker.spec != self._maker.spec:
            raise InvalidInput("aggregates_do_not_fit", "The aggregates are of different base models")
        for row, weight in zip(other.rows(), other._weights, strict=True):
            self._spill.append(row)
            self._weights.append(weight)

    def rows(self) -> list[memoryview]:
        """The updates, in the order in which they came. No more may follow."""
        whole, size = self._spill.whole(), self.row_bytes
        return [whole[at * size : (at + 1) * size] for at in range(self.count)]

    def result(self, piece_bytes: int) -> Iterator[memoryview]:
        """What the rule makes of the rows, as a combiner model."""
        values = self._over(Rows([Pieces.of(row) for row in self.rows()], self._weights, self._base))
        return _even(_model_parts(values, self._base), piece_bytes)


def _model_parts(values: UpdateValues, base: ModelSpec) -> Iterator[memoryview]:
    header, spec = mean_layout(base).header, mean_layout(base).spec
    yield memoryview(header)
    scratch = np.empty(PIECE, np.float64)
    for tensor in spec.stored_order:
        for at in range(0, tensor.size, PIECE):
            stop = min(at + PIECE, tensor.size)
            out: Flat = np.empty(stop - at, tensor.dtype)
            store_mean(values.read(tensor.name, at, stop), 1.0, out, scratch)
            yield out.view(np.uint8).data


def _even(parts: Iterator[memoryview], size: int) -> Iterator[memoryview]:
    """The same bytes in parts of one size, but for the last."""
    room, filled = bytearray(size), 0
    for part in parts:
        while part:
            taken = part[: size - filled]
            room[filled : filled + len(taken)] = taken
            filled += len(taken)
            part = part[len(taken) :]
            if filled == size:
                yield memoryview(room)
                room, filled = bytearray(size), 0
    if filled:
        yield memoryview(room)[:filled]
