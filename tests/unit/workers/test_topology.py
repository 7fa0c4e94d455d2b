"""Topologies against the matrices that FedML's page prints, and against closed forms."""

from pathlib import Path

import numpy as np
import pytest

from fedn.workers.topology import (
    AsymmetricTopologyManager,
    BalancedTreeTopology,
    CompleteTopology,
    ErdosRenyiTopology,
    ExponentialTopology,
    GraphTopology,
    HypercubeTopology,
    MatrixTopology,
    StarTopology,
    SymmetricTopologyManager,
    TorusTopology,
    metropolis,
    one_peer_exponential,
)

ASYMMETRIC_PAGE = """
11101011
11111001
11111101
11111110
00111110
01011111
10101111
11011111
"""


def test_the_ring_of_the_page() -> None:
    ring = SymmetricTopologyManager(6, 2)
    assert ring.topology == []
    ring.generate_topology()
    third = np.float32(1 / 3)
    expected = third * np.array(
        [[1, 1, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1],
         [1, 0, 0, 0, 1, 1]], np.float32
    )  # fmt: skip
    assert ring.topology.dtype == np.float32
    np.testing.assert_array_equal(ring.topology, expected)
    np.testing.assert_array_equal(ring.get_out_neighbor_weights(1), expected[1])
    np.testing.assert_array_equal(ring.get_in_neighbor_weights(1), expected[1])
    assert ring.get_out_neighbor_idx_list(1) == ring.get_in_neighbor_idx_list(1) == [0, 2]


@pytest.mark.parametrize("seeded", ["global", "seed", "rng"])
def test_the_asymmetric_topology_of_the_page(seeded: str) -> None:
    if seeded == "global":
        np.random.seed(145981)
        made = AsymmetricTopologyManager(8, 4, 2)
    elif seeded == "seed":
        made = AsymmetricTopologyManager(8, 4, 2, seed=145981)
    else:
        made = AsymmetricTopologyManager(8, 4, 2, rng=np.random.RandomState(145981))
    made.generate_topology()
    links = np.array([list(map(int, line)) for line in ASYMMETRIC_PAGE.split()], np.float32)
    np.testing.assert_array_equal(made.topology, links / links.sum(axis=1, keepdims=True))
    s, v = np.float32(1 / 6), np.float32(1 / 7)
    assert list(made.topology[0]) == [s, s, s, 0, s, 0, s, s]
    assert list(made.get_out_neighbor_weights(1)) == [s, s, s, s, s, 0, 0, s]
    assert made.get_out_neighbor_idx_list(1) == [0, 2, 3, 4, 7]
    assert made.get_in_neighbor_weights(1) == [s, s, v, v, 0, s, 0, v]
    assert isinstance(made.get_in_neighbor_weights(1), list)
    assert made.get_in_neighbor_idx_list(1) == [0, 2, 3, 5, 7]


def reference_links(n: int, k: int) -> np.ndarray:
    """The lattice by its definition, pair by pair."""
    links = np.eye(n)
    for i in range(n):
        for j in range(n):
            distance = min((i - j) % n, (j - i) % n)
            if distance == 1 or distance <= k // 2 or k == n:
                links[i, j] = 1
    return links


def test_symmetric_topologies_of_all_small_sizes() -> None:
    for n in range(2, 14):
        for k in range(-1, n + 1):
            made = SymmetricTopologyManager(n, k).matrix
            links = reference_links(n, k)
            np.testing.assert_array_equal(made, (links / links.sum(axis=1, keepdims=True)).astype(np.float32))
            np.testing.assert_array_equal(made, made.T)


def test_fedml_ignores_out_directed_neighbor_and_exact_obeys_it() -> None:
    same = [AsymmetricTopologyManager(9, 2, count, seed=5).matrix for count in (0, 2, 99)]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])
    for count in (0, 1, 3, 6, 99):
        made = AsymmetricTopologyManager(9, 2, count, seed=5, mode="exact")
        assert [len(made.get_out_neighbor_idx_list(node)) for node in range(9)] == [2 + min(count, 6)] * 9


def test_no_pair_gets_links_by_chance_in_both_directions() -> None:
    for seed in range(50):
        links = AsymmetricTopologyManager(9, 2, seed=seed).matrix > 0
        extra = links & ~(SymmetricTopologyManager(9, 2).matrix > 0)
        assert extra.any() and not (extra & extra.T).any()


def test_edges_of_the_sizes() -> None:
    assert SymmetricTopologyManager(1).matrix.tolist() == [[1.0]]
    assert AsymmetricTopologyManager(1, seed=0).matrix.tolist() == [[1.0]]
    assert SymmetricTopologyManager(2, 2).matrix.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    for count in (0, 1, -2):
        assert SymmetricTopologyManager(5, count).get_out_neighbor_idx_list(0) == [1, 4]
    with pytest.raises(ValueError, match="choose fewer"):
        SymmetricTopologyManager(3, 4)
    with pytest.raises(ValueError, match="choose fewer"):
        AsymmetricTopologyManager(2)
    with pytest.raises(ValueError, match="at least 1"):
        SymmetricTopologyManager(0)
    with pytest.raises(ValueError, match="not both"):
        AsymmetricTopologyManager(4, 2, seed=1, rng=np.random.default_rng(1))
    with pytest.raises(ValueError, match="mode"):
        AsymmetricTopologyManager(4, 2, mode="other")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 6, 100])
def test_an_index_outside_is_an_error(index: int) -> None:
    ring = SymmetricTopologyManager(6)
    for ask in (
        ring.get_in_neighbor_idx_list,
        ring.get_out_neighbor_idx_list,
        ring.get_in_neighbor_weights,
        ring.get_out_neighbor_weights,
    ):
        with pytest.raises(IndexError, match="no node"):
            ask(index)


UNDIRECTED = [
    StarTopology(6, 2),
    CompleteTopology(5),
    TorusTopology(3, 4),
    TorusTopology(1, 5),
    TorusTopology(2, 2),
    HypercubeTopology(4),
    BalancedTreeTopology(11, 3),
    ErdosRenyiTopology(12, 0.5, seed=2),
    GraphTopology([[0, 1, 0], [1, 0, 1], [0, 1, 0]]),
]


@pytest.mark.parametrize("topology", UNDIRECTED, ids=lambda made: type(made).__name__)
def test_undirected_graphs_are_symmetric_stochastic_and_connected(topology: MatrixTopology) -> None:
    matrix = topology.matrix
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    assert (matrix >= 0).all() and topology.is_doubly_stochastic() and topology.is_connected()
    assert 0 < topology.spectral_gap() <= 1.0001


def test_degrees_of_the_graphs() -> None:
    def degrees(made: MatrixTopology) -> list[int]:
        return [len(made.get_out_neighbor_idx_list(node)) for node in range(made.n)]

    assert degrees(StarTopology(5, 1)) == [1, 4, 1, 1, 1]
    assert degrees(CompleteTopology(4)) == [3] * 4
    assert degrees(TorusTopology(3, 4)) == [4] * 12
    assert degrees(HypercubeTopology(3)) == [3] * 8
    assert degrees(BalancedTreeTopology(7)) == [2, 3, 3, 1, 1, 1, 1]
    assert degrees(ExponentialTopology(8)) == [3] * 8
    assert ExponentialTopology(8).get_out_neighbor_idx_list(6) == [0, 2, 7]


def test_spectral_gaps_in_closed_form() -> None:
    # The ring's eigenvalues are (1 + 2 cos(2 pi k / n)) / 3; the complete graph's are 1 and 0.
    assert SymmetricTopologyManager(6).spectral_gap() == pytest.approx(1 - 2 / 3, abs=1e-6)
    assert CompleteTopology(7).spectral_gap() == pytest.approx(1, abs=1e-6)
    # The hypercube of dimension d with equal weights has (d + 1 - 2k) / (d + 1).
    assert HypercubeTopology(3).spectral_gap() == pytest.approx(1 / 2, abs=1e-6)
    assert GraphTopology(np.zeros((3, 3))).spectral_gap() == pytest.approx(0, abs=1e-6)
    assert SymmetricTopologyManager(1).spectral_gap() == 1


def test_connected_looks_at_the_direction_of_links() -> None:
    assert not GraphTopology([[0, 1, 0], [0, 0, 1], [0, 0, 0]]).is_connected()
    assert GraphTopology([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).is_connected()
    assert not ErdosRenyiTopology(5, 0.0, seed=1).is_connected()
    assert not GraphTopology([[0, 1, 1], [1, 0, 0], [0, 1, 0]]).is_doubly_stochastic()


def test_metropolis_weights_by_hand() -> None:
    path = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    third = 1 / 3
    np.testing.assert_allclose(metropolis(path), [[2 * third, third, 0], [third] * 3, [0, third, 2 * third]], rtol=1e-6)
    with pytest.raises(ValueError, match="symmetric"):
        metropolis(np.array([[0, 1], [0, 0]], bool))


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_one_peer_exponential_gives_the_mean_in_log_n_rounds(n: int) -> None:
    topology = one_peer_exponential(n)
    product = np.eye(n)
    for round_index in range(n.bit_length() - 1):
        topology.set_round(round_index)
        assert len(topology.get_out_neighbor_idx_list(0)) == 1
        product = product @ topology.matrix
    np.testing.assert_allclose(product, np.full((n, n), 1 / n), atol=1e-6)


def test_a_seeded_random_graph_is_the_same_again() -> None:
    one, other = (ErdosRenyiTopology(20, 0.3, seed=9).matrix for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_plot_is_a_picture(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"ring.{suffix}"
    SymmetricTopologyManager(6).plot(str(path))
    assert path.read_bytes()[:4] in {b"\x89PNG", b"<?xm"} and path.stat().st_size > 3000
