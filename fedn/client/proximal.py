"""FedProx at the client: a penalty that keeps training near the model that it started from.

Not here: how a plan says how strong it is: it is a hyper-parameter like others, `parameters: {proximal_mu: 0.01}`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedn.protocol.errors import InvalidInput

PARAMETER = "proximal_mu"


class Proximal:
    """FedProx (Li et al. 2020): a client minimizes its loss plus μ/2·‖w − w₀‖², with w₀ the model of its task.

    Args:
        start: w₀, as arrays, PyTorch tensors or Keras variables; copied.
        mu: μ, at least 0; with 0 nothing is added.

    Raises:
        InvalidInput: (`bad_parameter`) μ is no number of that kind.
    """

    def __init__(self, start: Iterable[Any], mu: float) -> None:
        if isinstance(mu, bool) or not isinstance(mu, int | float) or not (math.isfinite(mu) and mu >= 0):
            raise InvalidInput(
                "bad_parameter",
                f"{PARAMETER} must be a number of at least 0, not {mu!r}",
                fix=f"Write parameters: {{{PARAMETER}: 0.01}} in the plan.",
                where={"field": f"parameters.{PARAMETER}"},
            )
        self.mu = float(mu)
        self._start = [_copy(weight) for weight in start]

    @classmethod
    def of(cls, context: Mapping[str, Any], start: Iterable[Any]) -> "Proximal":
        """With the μ of a task: the plan's parameter `proximal_mu`, or 0 where there is none."""
        return cls(start, context.get(PARAMETER, 0.0))

    def penalty(self, weights: Sequence[Any]) -> Any:
        """μ/2·‖w − w₀‖², to be added to the loss; of arrays, or of PyTorch tensors, whose gradient it then has.

        ValueError where the weights are not as many as those of the start.
        """
        pairs = zip(weights, self._start, strict=True)
        return 0.5 * self.mu * sum(((weight - start) ** 2).sum() for weight, start in pairs)

    def gradients(self, weights: Sequence[Any]) -> list[Any]:
        """μ·(w − w₀) for each, to be added to the gradients of the loss; of anything that can be subtracted."""
        return [self.mu * (weight - start) for weight, start in zip(weights, self._start, strict=True)]


def _copy(weight: Any) -> Any:
    if hasattr(weight, "detach"):  # a PyTorch tensor, which stays on its device
        return weight.detach().clone()
    return np.array(weight)
