"""Rules that treat each element by itself: its values in all updates become one."""

from abc import ABC, abstractmethod

import numpy as np

from fedn.aggregation.gathering.base import Gathering, Matrix, Rows, Vector
from fedn.models.codecs.base import Flat


class Coordinatewise(Gathering, ABC):
    """See the module. Integers and bools are treated alike, and rounded like a mean."""

    takes_sparse = False

    @abstractmethod
    def combine(self, ordered: Matrix) -> Vector:
        """One value for each column of (updates, elements), whose values ascend."""

    def over(self, rows: Rows) -> "_Coordinates":
        self.check_count(rows)
        return _Coordinates(self, rows)


class _Coordinates:
    def __init__(self, rule: Coordinatewise, rows: Rows) -> None:
        self._rule = rule
        self._rows = rows

    def read(self, tensor: str, start: int, stop: int) -> Flat:
        out = np.empty(stop - start, np.float64)
        for first, matrix in self._rows.matrices(self._rows.spec.by_name[tensor], start, stop):
            ordered = np.sort(matrix, axis=0)
            out[first - start : first - start + ordered.shape[1]] = self._rule.combine(ordered)
        return out
