"""FedStride: FedAvg in blocks of updates."""

from collections.abc import Callable, Iterator
from typing import Any, Self

from pydantic import Field

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.fedavg import Linear
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.option_values import OptionValues, read_values


class FedStride(Linear):
    """FedAvg whose sum is made in blocks of L updates (MetisFL): W = (Σ of blocks' sums) / Σ sₖ. It equals FedAvg.

    A block's updates are added to the block's own sum, and that to the sum of all: memory is that of two sums, however
    many updates come, and rounding grows with L + N/L instead of N, which shows where sum_dtype is float32.
    """

    name = "fedstride"

    class Options(OptionValues):
        stride_length: int = Field(ge=1)
        """Updates of a block, L."""

    def __init__(self, **options: Any) -> None:
        self._stride_length = read_values("rule", self.name, self.Options, options).stride_length

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> "_Blocks":
        return _Blocks(base, sum_dtype, base_model, self._stride_length)


class _Blocks:
    """See `FedStride`."""

    def __init__(self, base: ModelSpec, sum_dtype: str, base_model: Buffer | Pieces | None, stride_length: int) -> None:
        self._make: Callable[[], Accumulator] = lambda: Accumulator(base, sum_dtype, base_model)
        self._stride_length = stride_length
        self._total = self._make()
        self._block = self._make()

    @property
    def weight(self) -> float:
        return self._total.weight + self._block.weight

    @property
    def count(self) -> int:
        return self._total.count + self._block.count

    def add(
        self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model", share: float = 1.0
    ) -> None:
        self._block.add(update, spec, weight, form=form, share=share)
        self._end_block()

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model", share: float = 1.0) -> None:
        self._block.add_encoded(payload, weight, form=form, share=share)
        self._end_block()

    def _end_block(self, at: int | None = None) -> None:
        if self._block.count >= (self._stride_length if at is None else at):
            self._total.merge(self._block)
            self._block = self._make()

    def merge(self, other: Self) -> None:
        self._total.merge(other._total)
        self._total.merge(other._block)

    def result(self, piece_bytes: int) -> Iterator[memoryview]:
        self._end_block(1)
        return self._total.result(piece_bytes)

    def difference(self, piece_bytes: int) -> Iterator[memoryview]:
        self._end_block(1)
        return self._total.difference(piece_bytes)
