"""Adam on the server."""

from typing import Any

from pydantic import Field

from fedn.aggregation.optimizers.adaptive import Adaptive, AdaptiveOptions
from fedn.models.codecs.base import Flat


class DecayOptions(AdaptiveOptions):
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the squares, β₂."""


class Adam(Adaptive):
    """FedAdam (Reddi et al. 2021): vₜ = β₂·vₜ₋₁ + (1 − β₂)·Δₜ²;  xₜ₊₁ = xₜ + η·mₜ / (√vₜ + τ).

    With mₜ = β₁·mₜ₋₁ + (1 − β₁)·Δₜ and v₋₁ = τ². As in the paper, there is no correction of bias.
    """

    name = "adam"
    Options = DecayOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._beta_2 = self.Options(**options).beta_2

    def _note_square(self, second: Flat, square: Flat) -> None:
        second *= self._beta_2
        square *= 1 - self._beta_2
        second += square
