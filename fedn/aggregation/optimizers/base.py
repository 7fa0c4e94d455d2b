"""What a server optimizer is: it takes the mean change of the updates for a step's (negative) gradient.

With xₜ the global model and x̄ the mean of the updates, the change is Δₜ = x̄ − xₜ (Reddi et al. 2021, Algorithm 1).
Integer and bool tensors, and those that the option `exclude` names, become the mean itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import Field

from fedn.models.codecs.base import Flat
from fedn.plan.option_values import OptionValues
from fedn.plan.options import OPTIMIZERS, load_option

STATISTICS = ("*running_mean", "*running_var", "*moving_mean", "*moving_variance")
"""Running statistics of normalization layers, as PyTorch and Keras name them: no optimizer's business."""


class OptimizerOptions(OptionValues):
    """What every server optimizer knows."""

    learning_rate: float = Field(gt=0)
    """The server's, η."""
    exclude: list[str] = Field(default=list(STATISTICS))
    """Tensors that become the mean of the updates as with FedAvg, by name; `*` stands for anything."""


class ServerOptimizer(Protocol):
    """Built with the plan's options (unknown ones: InvalidInput). Has no state: its slots are kept for it."""

    name: str

    def __init__(self, **options: Any) -> None: ...

    @property
    def exclude(self) -> Sequence[str]:
        """Patterns of names of tensors that it leaves alone."""

    @property
    def slots(self) -> Mapping[str, float]:
        """Name of each array that it keeps for every tensor, to the value of all its elements before the first step."""

    def step(self, weights: Flat, change: Flat, slots: Sequence[Flat]) -> None:
        """One step over elements that lie together; the caller sees to it that every element has one.

        Args:
            weights: (n,) float64 or float32, of xₜ; becomes xₜ₊₁.
            change: (n,) of the same dtype, Δₜ; may be overwritten.
            slots: (n,) each and of the same dtype, in the order of `self.slots`; become those of the next step.
        """


def get_optimizer(name: str, options: Mapping[str, Any]) -> ServerOptimizer:
    """The optimizer of that name. InvalidInput for an unknown name or option."""
    optimizer: ServerOptimizer = load_option(OPTIMIZERS, name)(**options)
    return optimizer
