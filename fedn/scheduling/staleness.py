"""How much an update still counts that started from a model which is no longer the latest (Xie et al. 2019, FedAsync).

The staleness τ is the number of commits between the model that a client started from and the one that its update is
applied to. Each of these is 1 where nothing was committed meanwhile.
"""

from typing import Annotated, Literal

from pydantic import Field

from fedn.plan.option_values import OptionValues


class Constant(OptionValues):
    """s(τ) = 1."""

    name: Literal["constant"] = "constant"

    def weight(self, staleness: int) -> float:
        return 1.0


class Polynomial(OptionValues):
    """s(τ) = (1 + τ)^−a; FedBuff has a = 1/2 (Nguyen et al. 2022)."""

    name: Literal["polynomial"] = "polynomial"
    a: float = Field(default=0.5, ge=0, le=100)

    def weight(self, staleness: int) -> float:
        return float((1.0 + staleness) ** -self.a)


class Hinge(OptionValues):
    """s(τ) = 1 up to τ = b, and 1 / (a·(τ − b) + 1) beyond."""

    name: Literal["hinge"] = "hinge"
    a: float = Field(default=10.0, ge=0, le=1e6)
    b: float = Field(default=4.0, ge=0, le=1e6)

    def weight(self, staleness: int) -> float:
        return 1.0 if staleness <= self.b else 1.0 / (self.a * (staleness - self.b) + 1.0)


Staleness = Annotated[Constant | Polynomial | Hinge, Field(discriminator="name")]
