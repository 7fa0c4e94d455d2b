"""Adagrad on the server."""

from pydantic import Field

from fedn.aggregation.optimizers.adaptive import Adaptive, AdaptiveOptions
from fedn.models.codecs.base import Flat


class AdagradOptions(AdaptiveOptions):
    beta_1: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the mean change, β₁."""


class Adagrad(Adaptive):
    """FedAdagrad (Reddi et al. 2021): vₜ = vₜ₋₁ + Δₜ²;  xₜ₊₁ = xₜ + η·mₜ / (√vₜ + τ).

    With mₜ = β₁·mₜ₋₁ + (1 − β₁)·Δₜ and v₋₁ = τ².
    """

    name = "adagrad"
    Options = AdagradOptions

    def _note_square(self, second: Flat, square: Flat) -> None:
        second += square
