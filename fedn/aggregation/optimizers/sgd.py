"""Gradient descent on the mean change, with momentum or without."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from fedn.aggregation.optimizers.base import OptimizerOptions
from fedn.models.codecs.base import Flat
from fedn.plan.option_values import read_values


class Sgd:
    """FedAvgM (Hsu et al. 2019): vₜ = β·vₜ₋₁ + Δₜ;  xₜ₊₁ = xₜ + η·vₜ.

    With momentum 0 and learning rate 1 it is FedAvg, and keeps no state.
    """

    name = "sgd"

    class Options(OptimizerOptions):
        learning_rate: float = Field(default=1.0, gt=0)
        """The server's, η."""
        momentum: float = Field(default=0.9, ge=0, lt=1)
        """β."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("optimizer", self.name, self.Options, options)
        self.exclude = tuple(self._options.exclude)

    @property
    def slots(self) -> Mapping[str, float]:
        return {"momentum": 0.0} if self._options.momentum else {}

    def step(self, weights: Flat, change: Flat, slots: Sequence[Flat]) -> None:
        direction = change
        if slots:
            (direction,) = slots
            direction *= self._options.momentum
            direction += change
        weights += self._options.learning_rate * direction
