"""What every topology answers: who sends to whom, with which weight. FedML's five methods and more.

A topology of n nodes is its matrix W (n × n, float32): W[i, j] > 0 says that node i sends to node j, and W[i, i] is
the weight that a node gives to itself. Rows sum to 1.
"""

import abc
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Links = np.ndarray[Any, np.dtype[np.bool_]]


class BaseTopologyManager(abc.ABC):
    """FedML's interface. Node indices run from 0 to n - 1; others are an IndexError."""

    @abc.abstractmethod
    def generate_topology(self) -> None:
        """Makes the matrix; again, where there is chance in it."""

    @abc.abstractmethod
    def get_in_neighbor_idx_list(self, node_index: int) -> list[int]:
        """Who sends to this node, ascending, without itself."""

    @abc.abstractmethod
    def get_out_neighbor_idx_list(self, node_index: int) -> list[int]:
        """To whom this node sends, ascending, without itself."""

    @abc.abstractmethod
    def get_in_neighbor_weights(self, node_index: int) -> Any:
        """The column of this node: W[0][i] … W[n-1][i], its own weight among them."""

    @abc.abstractmethod
    def get_out_neighbor_weights(self, node_index: int) -> Any:
        """The row of this node: W[i][0] … W[i][n-1], its own weight among them."""

    def at(self, round_index: int) -> "BaseTopologyManager":
        """The topology of a round, from 0: the same in every round, unless a class says otherwise."""
        return self


class MatrixTopology(BaseTopologyManager):
    """A topology that is a matrix, made by `generate_topology` or when it is first asked for.

    Args:
        n: nodes, at least 1.
    """

    def __init__(self, n: int) -> None:
        self.n = as_count(n, "n", least=1)
        self.topology: Any = []
        """[] at first, as in FedML; then the matrix."""

    @abc.abstractmethod
    def make_matrix(self) -> Matrix:
        """The matrix, float32 (n, n)."""

    def generate_topology(self) -> None:
        matrix = self.make_matrix()
        matrix.flags.writeable = False
        self.topology = matrix

    @property
    def matrix(self) -> Matrix:
        """The matrix, made if it is not yet there; read-only."""
        if len(self.topology) == 0:
            self.generate_topology()
        made: Matrix = self.topology
        return made

    def get_in_neighbor_idx_list(self, node_index: int) -> list[int]:
        return self._others(self.matrix[:, self._checked(node_index)], node_index)

    def get_out_neighbor_idx_list(self, node_index: int) -> list[int]:
        return self._others(self.matrix[self._checked(node_index)], node_index)

    def get_in_neighbor_weights(self, node_index: int) -> Any:
        return self.matrix[:, self._checked(node_index)]

    def get_out_neighbor_weights(self, node_index: int) -> Any:
        return self.matrix[self._checked(node_index)]

    def spectral_gap(self) -> float:
        """1 - |λ₂| of the matrix: 1 where one exchange gives everybody the mean, 0 where they never agree.

        Gossip shrinks the distance to agreement by about |λ₂| a round (Boyd et al., Gossip algorithms, 2006).
        """
        sizes = np.sort(np.abs(np.linalg.eigvals(self.matrix.astype(np.float64))))
        return float(1 - sizes[-2]) if self.n > 1 else 1.0

    def is_connected(self) -> bool:
        """Whether a message can come from each node to each other along the links, in their directions."""
        links = self.matrix > 0
        return _reaches_all(links) and _reaches_all(links.T)

    def is_doubly_stochastic(self) -> bool:
        """Whether columns sum to 1 as rows do: only then plain gossip keeps the mean; else use push-sum."""
        return bool(np.allclose(self.matrix.sum(axis=0, dtype=np.float64), 1, atol=1e-5))

    def plot(self, path: str) -> None:
        """Draws the topology into a file, PNG or SVG by its suffix; needs matplotlib, no display.

        Raises:
            InvalidInput: (`plot_needs_matplotlib`) matplotlib is not there.
        """
        from fedn.workers.topology.plot import draw  # matplotlib is an extra

        draw(self.matrix, path)

    def _checked(self, node_index: int) -> int:
        if not 0 <= node_index < self.n:
            raise IndexError(f"there is no node {node_index}: the topology has the nodes 0 to {self.n - 1}")
        return node_index

    def _others(self, weights: Matrix, node_index: int) -> list[int]:
        return [int(index) for index in np.flatnonzero(weights > 0) if index != node_index]


def uniform_rows(links: Links) -> Matrix:
    """Each node gives all whom it sends to, and itself, the same weight: 1 / (out-degree + 1)."""
    ones = (links | np.eye(len(links), dtype=bool)).astype(np.float32)
    rows: Matrix = ones / ones.sum(axis=1, keepdims=True)
    return rows


def metropolis(links: Links) -> Matrix:
    """Metropolis–Hastings weights of an undirected graph: symmetric and doubly stochastic for any degrees.

    W[i, j] = 1 / (1 + max(degree i, degree j)) on links, and W[i, i] = 1 - the others (Xiao, Boyd, Kim 2007, eq. 3).

    Args:
        links: symmetric (n, n), without loops.
    """
    if not np.array_equal(links, links.T) or links.diagonal().any():
        raise ValueError("Metropolis weights need a symmetric graph without loops")
    degrees = links.sum(axis=1)
    weights = np.where(links, 1 / (1 + np.maximum(degrees[:, None], degrees[None, :])), 0.0)
    np.fill_diagonal(weights, 1 - weights.sum(axis=1))
    return weights.astype(np.float32)


def as_count(value: int, name: str, *, least: int) -> int:
    """`value`, if it is a whole number of at least `least`."""
    whole = int(value)
    if whole != value or whole < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return whole


def _reaches_all(links: Links) -> bool:
    seen = np.zeros(len(links), dtype=bool)
    seen[0] = True
    front = seen.copy()
    while front.any():
        front = links[front].any(axis=0) & ~seen
        seen |= front
    return bool(seen.all())
