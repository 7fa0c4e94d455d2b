"""Yogi on the server."""

from typing import Any

import numpy as np

from fedn.aggregation.optimizers.adam import DecayOptions
from fedn.aggregation.optimizers.adaptive import Adaptive
from fedn.models.codecs.base import Flat


class Yogi(Adaptive):
    """FedYogi (Reddi et al. 2021): vₜ = vₜ₋₁ − (1 − β₂)·Δₜ²·sign(vₜ₋₁ − Δₜ²).

    Otherwise as adam: xₜ₊₁ = xₜ + η·mₜ / (√vₜ + τ), with mₜ = β₁·mₜ₋₁ + (1 − β₁)·Δₜ and v₋₁ = τ².
    """

    name = "yogi"
    Options = DecayOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._beta_2 = self.Options(**options).beta_2

    def _note_square(self, second: Flat, square: Flat) -> None:
        sign = np.sign(second - square)
        square *= 1 - self._beta_2
        square *= sign
        second -= square
