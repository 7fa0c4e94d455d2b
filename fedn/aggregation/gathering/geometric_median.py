"""The point from which the sum of distances to all updates is smallest."""

from typing import Any

import numpy as np
from pydantic import Field

from fedn.aggregation.gathering.base import GatheringOptions, Matrix, Vector
from fedn.aggregation.gathering.distances import ByDistance, squared_distances
from fedn.plan.option_values import read_values


class GeometricMedian(ByDistance):
    """RFA (Pillutla et al. 2022): argminᵥ Σ pₖ·‖v − xₖ‖ with pₖ = sₖ / Σ sⱼ, by the smoothed Weiszfeld algorithm.

    Step by step, v ← Σ βₖ·xₖ / Σ βₖ with βₖ = pₖ / max(ν, ‖v − xₖ‖), over all floating-point tensors as one vector.
    Robust while the faulty updates have less than half of the weight.
    """

    name = "geometric_median"
    weighs = True

    class Options(GatheringOptions):
        smoothing: float = Field(default=1e-6, gt=0)
        """Distances below it count as it, ν."""
        iterations: int = Field(default=1000, ge=1, le=100_000)
        """Steps at the most."""
        tolerance: float = Field(default=1e-9, gt=0, lt=1)
        """The steps end when v moves by no more than this part of the median distance."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("rule", self.name, self.Options, options)
        self.scope = self._options.scope

    def coefficients(self, gram: Matrix, weights: Vector) -> Vector:
        """v is a weighted mean of the updates in each step, so its distances follow from their inner products alone."""
        near = np.isfinite(np.diag(gram))
        if not near.any():
            near[:] = True
        gram = np.where(np.isfinite(gram), gram, 0.0)[np.ix_(near, near)]
        parts = weights[near] / weights[near].sum()
        found = parts
        for _ in range(self._options.iterations):
            distances = _distances(gram, found)
            following = parts / np.maximum(distances, self._options.smoothing)
            following /= following.sum()
            change = following - found
            found = following
            # Seen from the usual distance: a part that is next to nothing moves v far where its update is far away.
            moved = float(np.sqrt(max(change @ gram @ change, 0.0)))
            if moved <= self._options.tolerance * float(np.median(distances)):
                break
        # Where the point is one of the updates, the steps come near it ever more slowly.
        costs = np.sqrt(squared_distances(gram)) @ parts
        if costs.min() <= parts @ _distances(gram, found):
            found = np.zeros(len(parts))
            found[np.argmin(costs)] = 1.0
        coefficients = np.zeros(len(weights))
        coefficients[near] = found
        return coefficients


def _distances(gram: Matrix, parts: Vector) -> Vector:
    """(n,) from Σ partsₖ·xₖ to each update."""
    towards = gram @ parts
    distances: Vector = np.sqrt(np.maximum(parts @ towards - 2 * towards + np.diag(gram), 0.0))
    return distances
