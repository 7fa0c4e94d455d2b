"""FedML's two topologies, to the bit, from NumPy alone.

Both start from a ring joined with a lattice (each node linked to the k/2 nearest on either side); both give uniform
weights. FedML's classes take `out_directed_neighbor` and never look at it; `mode="exact"` makes it mean something.
"""

from typing import Literal, Protocol

import numpy as np

from fedn.workers.topology.base import Links, Matrix, MatrixTopology, as_count, uniform_rows


class _Draws(Protocol):
    def randint(self, low: int, *, size: int) -> "np.ndarray[tuple[int], np.dtype[np.int_]]": ...


def lattice(n: int, k: int) -> Links:
    """n nodes in a ring, each linked to the k // 2 nearest on either side: to all where k is n; without loops.

    It is the Watts–Strogatz graph without rewiring. An odd k counts as k - 1, unless it is n.
    """
    if k > n:
        raise ValueError(f"a node cannot have {k} neighbours among {n} nodes: choose fewer, or more nodes")
    links = np.zeros((n, n), dtype=bool)
    for distance in range(1, n if k == n else k // 2 + 1):
        for sign in (1, -1):
            links[np.arange(n), (np.arange(n) + sign * distance) % n] = True
    np.fill_diagonal(links, False)
    return links


class SymmetricTopologyManager(MatrixTopology):
    """A ring in which each node is linked to `neighbor_num` others, half of them on either side.

    Symmetric and doubly stochastic: each weight is 1 / (neighbours + 1).

    Args:
        n: number of nodes; 1 gives [[1.]].
        neighbor_num: neighbours of each node, the two of the ring among them; odd counts as one less, what is below
            2 as the ring alone.

    Raises:
        ValueError: more neighbours than nodes.
    """

    def __init__(self, n: int, neighbor_num: int = 2) -> None:
        super().__init__(n)
        self.neighbor_num = neighbor_num
        _check_neighbours(self.n, int(neighbor_num))

    def make_matrix(self) -> Matrix:
        return uniform_rows(_undirected(self.n, int(self.neighbor_num)))


class AsymmetricTopologyManager(MatrixTopology):
    """A symmetric topology with directed links added by chance. Rows sum to 1, columns do not: average by push-sum.

    Args:
        n: number of nodes; 1 gives [[1.]].
        undirected_neighbor_num: neighbours in both directions, as `neighbor_num` of the symmetric one.
        out_directed_neighbor: in mode "exact", how many directed links each node gets besides (fewer where nobody is
            left). In mode "fedml" it does nothing, as in FedML: there, a coin decides on each possible link.
        seed: of the draws. None draws from NumPy's global stream, as FedML does: in several processes each then has
            another matrix, unless all call numpy.random.seed alike.
        rng: instead of a seed.
        mode: "fedml" is FedML's algorithm, to the bit; "exact" obeys out_directed_neighbor.

    Raises:
        ValueError: more neighbours than nodes, both seed and rng, or another mode.
    """

    def __init__(
        self,
        n: int,
        undirected_neighbor_num: int = 3,
        out_directed_neighbor: int = 3,
        *,
        seed: int | None = None,
        rng: np.random.Generator | np.random.RandomState | None = None,
        mode: Literal["fedml", "exact"] = "fedml",
    ) -> None:
        super().__init__(n)
        if seed is not None and rng is not None:
            raise ValueError("give a seed or an rng, not both")
        if mode not in {"fedml", "exact"}:
            raise ValueError(f"mode must be 'fedml' or 'exact', not {mode!r}")
        self.undirected_neighbor_num = undirected_neighbor_num
        self.out_directed_neighbor = as_count(out_directed_neighbor, "out_directed_neighbor", least=0)
        self.mode = mode
        _check_neighbours(self.n, int(undirected_neighbor_num))
        self._draws: _Draws = _source(seed, rng)

    def make_matrix(self) -> Matrix:
        links = _undirected(self.n, int(self.undirected_neighbor_num)) | np.eye(self.n, dtype=bool)
        if self.mode == "exact":
            self._add_exactly(links)
        else:
            self._add_by_coins(links)
        return uniform_rows(links)

    def get_in_neighbor_weights(self, node_index: int) -> list[np.float32]:
        """The column of this node, as a list: that is FedML's type for it."""
        return list(super().get_in_neighbor_weights(node_index))

    def _add_by_coins(self, links: Links) -> None:
        """A coin for each pair without a link; a link whose reverse was added before is not added."""
        added = np.zeros_like(links)
        for node in range(self.n):
            absent = np.flatnonzero(~links[node])
            heads = self._draws.randint(2, size=len(absent)) == 1
            chosen = absent[heads & ~added[absent, node]]
            links[node, chosen] = added[node, chosen] = True

    def _add_exactly(self, links: Links) -> None:
        """`out_directed_neighbor` links from each node to nodes drawn without return."""
        for node in range(self.n):
            absent = np.flatnonzero(~links[node])
            for _ in range(min(self.out_directed_neighbor, len(absent))):
                place = int(self._draws.randint(len(absent), size=1)[0])
                links[node, absent[place]] = True
                absent = np.delete(absent, place)


class _Global:
    """NumPy's global stream, as FedML uses it."""

    def randint(self, low: int, *, size: int) -> "np.ndarray[tuple[int], np.dtype[np.int_]]":
        return np.random.randint(low, size=size)


class _Generated:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def randint(self, low: int, *, size: int) -> "np.ndarray[tuple[int], np.dtype[np.int_]]":
        return self._rng.integers(low, size=size)


def _source(seed: int | None, rng: np.random.Generator | np.random.RandomState | None) -> _Draws:
    if seed is not None:
        return np.random.RandomState(seed)
    if rng is None:
        return _Global()
    return _Generated(rng) if isinstance(rng, np.random.Generator) else rng


def _check_neighbours(n: int, count: int) -> None:
    if count > n and n > 1:
        lattice(n, count)


def _undirected(n: int, count: int) -> Links:
    """The ring joined with the lattice; for one node, nothing."""
    if n == 1:
        return np.zeros((1, 1), dtype=bool)
    return lattice(n, 2) | lattice(n, count)
