"""Krum: the updates that have the closest neighbours."""

from typing import Any

import numpy as np
from pydantic import Field

from fedn.aggregation.gathering.base import GatheringOptions, Matrix, Vector
from fedn.aggregation.gathering.distances import ByDistance, squared_distances
from fedn.plan.option_values import read_values


class Krum(ByDistance):
    """The mean of the m updates with the lowest scores, each counting the same (Blanchard et al. 2017).

    An update's score is the sum of its squared distances to the n − f − 2 updates that are closest to it. With m = 1 it
    is Krum, with more Multi-Krum. There must be 2·f + 3 updates at least, and m + f + 2.
    """

    name = "krum"

    class Options(GatheringOptions):
        byzantine: int = Field(ge=0)
        """Faulty updates that are stood at the most, f."""
        select: int = Field(default=1, ge=1)
        """Updates whose mean is taken, m."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("rule", self.name, self.Options, options)
        self.scope = self._options.scope
        self.min_updates = max(2 * self._options.byzantine + 3, self._options.select + self._options.byzantine + 2)

    def coefficients(self, gram: Matrix, weights: Vector) -> Vector:
        neighbours = len(gram) - self._options.byzantine - 2
        # The first one of each row is the update itself.
        scores = np.sort(squared_distances(gram), axis=1)[:, 1 : neighbours + 1].sum(axis=1)
        chosen = np.argsort(scores, kind="stable")[: self._options.select]
        coefficients = np.zeros(len(gram))
        coefficients[chosen] = 1.0 / len(chosen)
        return coefficients
