"""Rules whose result is a weighted sum of the updates, with weights that follow from their distances."""

from abc import ABC, abstractmethod

import numpy as np

from fedn.aggregation.gathering.base import Gathering, Matrix, Rows, Vector
from fedn.models.codecs.base import Flat


def gram_matrix(rows: Rows) -> Matrix:
    """(n, n) inner products of the updates' floating-point tensors, as seen from the median of each element.

    From there, differences between updates that lie together keep their digits however far away another one is: seen
    from the mean, or from 0, one faulty update could blind all others. Not finite for updates that are too far to tell.
    """
    gram, middle = np.zeros((len(rows), len(rows))), len(rows) // 2
    with np.errstate(over="ignore", invalid="ignore"):
        for tensor in rows.spec.tensors:
            if rows.floating[tensor.name] and tensor.size:
                for _, matrix in rows.matrices(tensor, 0, tensor.size):
                    matrix -= np.partition(matrix, middle, axis=0)[middle]
                    gram += matrix @ matrix.T
    return gram


def squared_distances(gram: Matrix) -> Matrix:
    """(n, n), infinite where they are too large to tell."""
    norms = np.diag(gram)
    with np.errstate(invalid="ignore", over="ignore"):
        distances = norms[:, None] + norms[None, :] - 2 * gram
    distances[~np.isfinite(distances)] = np.inf
    np.fill_diagonal(distances, 0.0)
    return np.maximum(distances, 0.0)


class ByDistance(Gathering, ABC):
    """See the module. Distances are over all floating-point tensors; integers and bools get the same weights."""

    @abstractmethod
    def coefficients(self, gram: Matrix, weights: Vector) -> Vector:
        """(n,) what each update counts in the result; their sum is 1.

        Args:
            gram: (n, n), as `gram_matrix` gives it.
            weights: (n,) of the updates.
        """

    def over(self, rows: Rows) -> "_WeightedSum":
        self.check_count(rows)
        return _WeightedSum(rows, self.coefficients(gram_matrix(rows), rows.weights))


class _WeightedSum:
    def __init__(self, rows: Rows, coefficients: Vector) -> None:
        self._rows = rows
        self._coefficients = coefficients
        self._counting = np.flatnonzero(coefficients)

    def read(self, tensor: str, start: int, stop: int) -> Flat:
        out = np.zeros(stop - start)
        for first, matrix in self._rows.matrices(self._rows.spec.by_name[tensor], start, stop):
            part = out[first - start : first - start + matrix.shape[1]]
            for row in self._counting:
                part += self._coefficients[row] * matrix[row]
        return out
