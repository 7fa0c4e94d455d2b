"""Further topologies. Undirected ones have Metropolis weights, so that gossip over them keeps the mean."""

from collections.abc import Callable, Sequence

import numpy as np

from fedn.workers.topology.base import Links, Matrix, MatrixTopology, as_count, metropolis, uniform_rows


class GraphTopology(MatrixTopology):
    """Any graph, given by its links.

    Args:
        links: (n, n), True where i sends to j; loops are ignored.

    Undirected graphs get Metropolis weights, directed ones 1 / (out-degree + 1).
    """

    def __init__(self, links: Links | Sequence[Sequence[int]]) -> None:
        given = np.asarray(links).astype(bool)
        if given.ndim != 2 or given.shape[0] != given.shape[1]:
            raise ValueError(f"links must be a square matrix, not of shape {given.shape}")
        super().__init__(len(given))
        self._links: Links = given & ~np.eye(len(given), dtype=bool)

    def make_matrix(self) -> Matrix:
        symmetric = np.array_equal(self._links, self._links.T)
        return metropolis(self._links) if symmetric else uniform_rows(self._links)


class StarTopology(GraphTopology):
    """One node in the middle, as the server of FedAvg is; `center` is its index."""

    def __init__(self, n: int, center: int = 0) -> None:
        if not 0 <= center < as_count(n, "n", least=1):
            raise ValueError(f"center must be a node from 0 to {n - 1}, not {center}")
        links = np.zeros((n, n), dtype=bool)
        links[center] = links[:, center] = True
        super().__init__(links)
        self.center = center


class CompleteTopology(GraphTopology):
    """Everybody with everybody: one exchange gives the mean."""

    def __init__(self, n: int) -> None:
        as_count(n, "n", least=1)
        super().__init__(np.ones((n, n), dtype=bool))


class TorusTopology(GraphTopology):
    """A grid of rows × columns whose edges are joined; node r·columns + c is linked to the four around it."""

    def __init__(self, rows: int, columns: int) -> None:
        as_count(rows, "rows", least=1), as_count(columns, "columns", least=1)
        n = rows * columns
        links = np.zeros((n, n), dtype=bool)
        row, column = np.divmod(np.arange(n), columns)
        for other in (((row + 1) % rows) * columns + column, row * columns + (column + 1) % columns):
            links[np.arange(n), other] = links[other, np.arange(n)] = True
        super().__init__(links)
        self.rows, self.columns = rows, columns


class HypercubeTopology(GraphTopology):
    """2^dimension nodes; two are linked where their indices differ in one bit."""

    def __init__(self, dimension: int) -> None:
        as_count(dimension, "dimension", least=0)
        nodes = np.arange(2**dimension)
        links = np.zeros((len(nodes), len(nodes)), dtype=bool)
        for bit in range(dimension):
            links[nodes, nodes ^ (1 << bit)] = True
        super().__init__(links)
        self.dimension = dimension


class BalancedTreeTopology(GraphTopology):
    """n nodes filled level by level below node 0, each with at most `branching` children."""

    def __init__(self, n: int, branching: int = 2) -> None:
        as_count(n, "n", least=1), as_count(branching, "branching", least=1)
        children = np.arange(1, n)
        links = np.zeros((n, n), dtype=bool)
        parents = (children - 1) // branching
        links[children, parents] = links[parents, children] = True
        super().__init__(links)
        self.branching = branching


class ErdosRenyiTopology(MatrixTopology):
    """G(n, p): each pair is linked with the same chance. It may fall apart: ask is_connected().

    Args:
        n: nodes.
        p: the chance, from 0 to 1; above ln(n) / n it is likely connected.
        seed, rng: of the draws; without both, from the system's entropy. `generate_topology` draws anew.
    """

    def __init__(self, n: int, p: float, *, seed: int | None = None, rng: np.random.Generator | None = None) -> None:
        super().__init__(n)
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a chance from 0 to 1, not {p}")
        if seed is not None and rng is not None:
            raise ValueError("give a seed or an rng, not both")
        self.p = p
        self._rng = rng if rng is not None else np.random.default_rng(seed)

    def make_matrix(self) -> Matrix:
        upper = np.triu(self._rng.random((self.n, self.n)) < self.p, k=1)
        return metropolis(upper | upper.T)


class ExponentialTopology(MatrixTopology):
    """Directed: node i sends to i + 1, i + 2, i + 4, … (mod n). Few links, a large spectral gap, doubly stochastic.

    All weights are 1 / (links + 1) (Ying et al., Exponential graph is provably efficient, 2021).
    """

    def make_matrix(self) -> Matrix:
        links = np.zeros((self.n, self.n), dtype=bool)
        distance = 1
        while distance < self.n:
            links[np.arange(self.n), (np.arange(self.n) + distance) % self.n] = True
            distance *= 2
        return uniform_rows(links)


class TimeVaryingTopology(MatrixTopology):
    """A topology that is another one in each round; the five methods speak of the current round.

    Args:
        make: gives the topology of a round, always the same for the same round, in every process. All have the same n.
    """

    def __init__(self, make: Callable[[int], MatrixTopology]) -> None:
        self._make = make
        super().__init__(make(0).n)
        self.round_index = 0

    def at(self, round_index: int) -> MatrixTopology:
        """The topology of a round, from 0."""
        topology = self._make(as_count(round_index, "round_index", least=0))
        if topology.n != self.n:
            raise ValueError(f"round {round_index} has {topology.n} nodes instead of {self.n}")
        return topology

    def set_round(self, round_index: int) -> None:
        """Makes the round the one that the methods speak of."""
        self.topology = self.at(round_index).matrix
        self.round_index = round_index

    def make_matrix(self) -> Matrix:
        return self.at(self.round_index).matrix


def one_peer_exponential(n: int) -> TimeVaryingTopology:
    """In round t node i sends to i + 2^(t mod log₂ n) alone, half and half.

    Where n is a power of 2, log₂ n rounds give exactly the mean (Ying et al. 2021, lemma 1).
    """
    steps = max(1, (as_count(n, "n", least=1) - 1).bit_length())

    def make(round_index: int) -> MatrixTopology:
        distance = 2 ** (round_index % steps)
        links = np.zeros((n, n), dtype=bool)
        links[np.arange(n), (np.arange(n) + distance) % n] = True
        return _Directed(links)

    return TimeVaryingTopology(make)


class _Directed(GraphTopology):
    """Uniform rows also where the graph happens to be symmetric (two nodes)."""

    def make_matrix(self) -> Matrix:
        return uniform_rows(self._links)
