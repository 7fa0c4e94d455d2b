"""Federated Recency: the global model is the weighted mean of each client's latest model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.fedavg import Linear
from fedn.aggregation.lineage import Row
from fedn.models.codecs.base import PIECE, Check
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.option_values import NoValues, read_values
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rounds import HandsUp

_UNIT = 2.0**-53
"""Half the distance from 1 to the next float64: what rounding one sum costs, relative to it."""
_TOLERANCE = 2.0**-38
"""Rounding that a running sum may gather, relative to the sum of its terms' magnitudes: far less than float32's own."""


class FedRec(Linear):
    """Federated Recency: Σ sₖ·Wₖ / Σ sₖ over each client's latest model Wₖ, of whatever round (MetisFL; the cached mean
    that Stripelis et al. 2022 compare with).

    An update replaces its client's one before: wc ← wc − s_old·W_old + s_new·W_new and z ← z − s_old + s_new, two
    models to add however many clients there are. A client that leaves is taken out. For plans whose rounds ask a part
    of the clients, and for the scheduler asynchronous, of which each commit is that mean: an update from an old model
    counts in full until its client's next one replaces it. Combiners keep each client's latest update (their setting
    `updates`).
    """

    name = "fedrec"
    lineage = 1
    hands_up = HandsUp.MEAN
    needs = frozenset({Check.VALUES})
    Options = NoValues

    def __init__(self, **options: Any) -> None:
        read_values("rule", self.name, NoValues, options)

    def start(self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None) -> Any:
        raise InvalidInput("bad_rule", f"The rule {self.name} goes by lineages, and has no sum of one round")

    def start_lineage(self, rows: ModelSpec) -> "RunningMean":
        return RunningMean(rows)


class RunningMean:
    """Σ s·W / Σ s over rows that come and go, in float64; a `LineageAggregate`.

    Each change of a client's row rounds every element's sum twice, by at most 2⁻⁵³ of the sum, which is no larger than
    S = Σ s·max|W|; the sum of the weights likewise. These bounds are added up, so that the error is known to be less
    than their total: beyond 2⁻³⁸ of what counts now the mean has `drifted`. That is after thousands of changes, or at
    once when a client's huge values, or its huge weight, were replaced by usual ones.
    """

    def __init__(self, rows: ModelSpec) -> None:
        self._rows = rows
        self._empty()

    def _empty(self) -> None:
        self._sum = Accumulator(self._rows)
        self._values, self._weights = _Rounding(), _Rounding()

    @property
    def weight(self) -> float:
        return self._sum.weight

    @property
    def drifted(self) -> bool:
        return self._values.shows or self._weights.shows

    def replace(self, before: Sequence[Row], after: Sequence[Row]) -> None:
        for row in after[-1:]:
            self._sum.add(row.model, self._rows, row.weight)
            self._note(row, 1)
        for row in before[-1:]:
            self._sum.take_out(row.model, self._rows, row.weight)
            self._note(row, -1)
        if not self._sum.count:
            self._empty()

    def result(self, piece_bytes: int) -> Iterator[memoryview]:
        return self._sum.result(piece_bytes)

    def _note(self, row: Row, sign: int) -> None:
        self._values.change(sign * row.weight * self._peak(row.model))
        self._weights.change(sign * row.weight)

    def _peak(self, model: Pieces) -> float:
        """max|W| over all elements."""
        peak = 0.0
        for tensor in self._rows.tensors:
            for _, values in model.elements(tensor.dtype, tensor.start, tensor.size):
                for at in range(0, len(values), PIECE):
                    peak = max(peak, float(np.abs(values[at : at + PIECE]).max()))
        return peak


class _Rounding:
    """How far from its exact value a float64 sum may be whose terms come and go."""

    def __init__(self) -> None:
        self._scale = 0.0
        """No term is larger than its part of this sum."""
        self._error = 0.0

    def change(self, part: float) -> None:
        """A term came whose magnitude is `part` at the most, or one of minus that went."""
        highest = max(self._scale, self._scale + part)
        self._scale += part
        self._error += _UNIT * highest

    @property
    def shows(self) -> bool:
        return not self._error <= _TOLERANCE * self._scale  # so does what is not a number
