"""Norm clipping: no update moves the model further than a bound."""

from typing import Any

from pydantic import Field

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.fedavg import Linear
from fedn.aggregation.values import PayloadValues, PlainValues, UpdateValues, squared_norm
from fedn.models.codecs.base import Check
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.plan.option_values import OptionValues, read_values


class NormClipping(Linear):
    """The weighted mean of clipped updates: x + Σ pₖ·Δₖ·min(1, C/‖Δₖ‖), with Δₖ = xₖ − x (Sun et al. 2019).

    The norm is the Euclidean one over all floating-point tensors together. Integer and bool tensors are the weighted
    mean.
    """

    name = "norm_clipping"
    needs = frozenset({Check.NORM})
    needs_base = True

    class Options(OptionValues):
        max_norm: float = Field(gt=0)
        """The bound, C."""

    def __init__(self, **options: Any) -> None:
        self._max_norm = read_values("rule", self.name, self.Options, options).max_norm

    def start(
        self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None
    ) -> Accumulator:
        return _ClippedSum(base, sum_dtype, base_model, self._max_norm)


class _ClippedSum(Accumulator):
    def __init__(self, base: ModelSpec, sum_dtype: str, base_model: Buffer | Pieces | None, max_norm: float) -> None:
        super().__init__(base, sum_dtype, base_model)
        self._start = None if base_model is None else PlainValues.whole(base_model)
        self._max_norm = max_norm

    def add(
        self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model", share: float = 1.0
    ) -> None:
        clipped = share * self._clip(PlainValues(update, spec), spec, form)
        super().add(update, spec, weight, form=form, share=clipped)

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model", share: float = 1.0) -> None:
        if payload.plain:
            return self.add(payload.data, payload.spec, weight, form=form, share=share)
        clipped = share * self._clip(PayloadValues(payload), payload.base, form)
        return super().add_encoded(payload, weight, form=form, share=clipped)

    def _clip(self, update: UpdateValues, spec: ModelSpec, form: str) -> float:
        """min(1, C/‖Δ‖); 1 for what does not fit the base, which is then refused."""
        if self._start is None or not self._fits(spec):
            return 1.0
        norm = squared_norm(update, self._base, None if form == "delta" else self._start) ** 0.5
        return min(1.0, self._max_norm / norm) if norm else 1.0
