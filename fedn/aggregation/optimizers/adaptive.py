"""What Adagrad, Adam and Yogi on the server share (Reddi et al. 2021, Algorithm 2).

mₜ = β₁·mₜ₋₁ + (1 − β₁)·Δₜ;  xₜ₊₁ = xₜ + η·mₜ / (√vₜ + τ);  v₋₁ = τ². As in the paper, there is no correction of
bias. How vₜ comes about tells them apart.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from fedn.aggregation.optimizers.base import OptimizerOptions
from fedn.models.codecs.base import Flat
from fedn.plan.option_values import read_values


class AdaptiveOptions(OptimizerOptions):
    learning_rate: float = Field(default=0.1, gt=0)
    """The server's, η."""
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean change, β₁."""
    tau: float = Field(default=1e-3, gt=0)
    """Adaptivity τ: the larger, the more alike are the steps of all weights to those without v."""


class Adaptive(ABC):
    """See the module."""

    name: str
    Options: type[AdaptiveOptions] = AdaptiveOptions

    def __init__(self, **options: Any) -> None:
        self._given = read_values("optimizer", self.name, self.Options, options)
        self.exclude = tuple(self._given.exclude)

    @property
    def slots(self) -> Mapping[str, float]:
        mean = {"m": 0.0} if self._given.beta_1 else {}
        return {**mean, "v": self._given.tau**2}

    def step(self, weights: Flat, change: Flat, slots: Sequence[Flat]) -> None:
        *means, second = slots
        self._note_square(second, np.square(change))
        direction = change
        if means:
            (direction,) = means
            direction *= self._given.beta_1
            change *= 1 - self._given.beta_1
            direction += change
        scale = np.sqrt(second)
        scale += self._given.tau
        np.divide(direction, scale, out=scale)
        scale *= self._given.learning_rate
        weights += scale

    @abstractmethod
    def _note_square(self, second: Flat, square: Flat) -> None:
        """Makes vₜ of vₜ₋₁ in place, with Δₜ² in `square`, which may be overwritten."""
