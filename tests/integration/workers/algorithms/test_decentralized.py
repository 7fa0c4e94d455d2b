"""DSGD and push-sum: their mathematics against matrices, and that they learn digits without a server."""

import threading

import numpy as np
import pytest

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers import AsymmetricTopologyManager, SymmetricTopologyManager
from fedn.workers.algorithms import DsgdWorker, PushSumWorker
from fedn.workers.topology import MatrixTopology, TimeVaryingTopology, TorusTopology, one_peer_exponential
from tests.support.digits import SOFTMAX_REGRESSION, digits, digits_of
from tests.support.worker_backends import Run


def rate(round_index: int) -> float:
    return 0.3 / (1 + round_index)


def pull(rank: int, x: np.ndarray, round_index: int) -> np.ndarray:
    """The gradient of (a quarter of the squared distance to the worker's own place), another in each round."""
    return (x - np.array([rank, rank**2, -1.0])) / 2 + round_index / 10


def gradient_of(rank: int) -> object:
    return lambda model, round_index: {"x": pull(rank, model["x"], round_index)}


@pytest.mark.mpi
@pytest.mark.parametrize(
    "topology",
    [SymmetricTopologyManager(6, 2), TorusTopology(3, 3), one_peer_exponential(8)],
    ids=["ring", "torus", "time-varying"],
)
def test_dsgd_is_the_product_with_the_matrix_less_the_gradients(topology: MatrixTopology, run: Run) -> None:
    rounds, n = 12, topology.n
    found = run(n, lambda rank: DsgdWorker({"x": np.full(3, 5.0)}, topology, gradient_of(rank), rounds, rate).run())
    models = np.full((n, 3), 5.0)
    for t in range(rounds):
        gradients = np.stack([pull(rank, models[rank], t) for rank in range(n)])
        models = topology.at(t).matrix.astype(np.float64).T @ models - rate(t) * gradients
    np.testing.assert_allclose([model["x"] for model in found], models, atol=1e-10)


def directed(n: int) -> MatrixTopology:
    topology = AsymmetricTopologyManager(n, 4, 2, seed=145981)
    topology.generate_topology()
    assert not topology.is_doubly_stochastic()
    return topology


@pytest.mark.mpi
def test_push_sum_is_the_product_of_numerators_and_weights(run: Run) -> None:
    topology = TimeVaryingTopology(lambda t: AsymmetricTopologyManager(8, 4, 2, seed=t))
    rounds, n = 12, topology.n
    found = run(n, lambda rank: PushSumWorker({"x": np.full(3, 5.0)}, topology, gradient_of(rank), rounds, rate).run())
    numerators, weights = np.full((n, 3), 5.0), np.ones(n)
    for t in range(rounds):
        matrix = topology.at(t).matrix.astype(np.float64)
        matrix /= matrix.sum(axis=1, keepdims=True)
        models = numerators / weights[:, None]
        gradients = np.stack([pull(rank, models[rank], t) for rank in range(n)])
        numerators, weights = matrix.T @ (numerators - rate(t) * gradients), matrix.T @ weights
    assert weights.sum() == pytest.approx(n)
    np.testing.assert_allclose([model["x"] for model in found], numerators / weights[:, None], atol=1e-10)


def test_on_a_directed_graph_push_sum_finds_the_mean_and_gossip_is_refused(run: Run) -> None:
    n, topology = 8, directed(8)

    def still(model: Tensors, round_index: int) -> Tensors:
        return {"x": np.zeros(1)}

    found = run(n, lambda rank: PushSumWorker({"x": np.array([float(rank)])}, topology, still, 60, 0.0).run())
    np.testing.assert_allclose([model["x"][0] for model in found], 3.5, atol=1e-9)
    with pytest.raises(InvalidInput, match="push-sum") as caught:
        run(n, lambda rank: DsgdWorker({"x": np.zeros(1)}, topology, still, 3, 0.0).run())
    assert caught.value.code == "not_doubly_stochastic"


def test_a_fast_neighbour_waits_and_no_round_is_lost(run: Run) -> None:
    """FedML mixed values of different rounds, and most workers never ended: here one worker is held back on purpose."""
    n, rounds = 6, 40
    held = threading.Barrier(2)
    seen: list[list[int]] = [[] for _ in range(n)]

    def worker(rank: int) -> Tensors:
        def gradient(model: Tensors, round_index: int) -> Tensors:
            if rank in {0, 3} and round_index % 10 == 0:
                held.wait(60)  # the far side of the ring goes on to where it needs us
            return {"x": np.zeros(1)}

        def note(round_index: int, model: Tensors) -> None:
            seen[rank].append(round_index)

        ring = SymmetricTopologyManager(n, 2)
        model: Tensors = DsgdWorker({"x": np.array([float(rank)])}, ring, gradient, rounds, 0.0, on_round=note).run()
        return model

    found = run(n, worker)
    exact = np.linalg.matrix_power(SymmetricTopologyManager(n, 2).matrix.astype(np.float64), rounds) @ np.arange(n)
    np.testing.assert_allclose([model["x"][0] for model in found], exact, atol=1e-6)
    assert seen == [list(range(rounds))] * n


@pytest.mark.parametrize("algorithm", [DsgdWorker, PushSumWorker])
def test_sites_with_different_digits_learn_all_of_them(algorithm: type[DsgdWorker | PushSumWorker], run: Run) -> None:
    n = 6
    topology = SymmetricTopologyManager(n, 2) if algorithm is DsgdWorker else directed(n)
    topology.generate_topology()
    model = SOFTMAX_REGRESSION.init(0)

    def worker(rank: int) -> Tensors:
        mine = digits_of(rank, n)

        def gradient(weights: Tensors, round_index: int) -> Tensors:
            return mine.batch((rank, round_index), 32).gradient(SOFTMAX_REGRESSION, weights)

        found: Tensors = algorithm(model, topology, gradient, 200, lambda t: 1 / (1 + t / 50)).run()
        return found

    found = run(n, worker)
    _, held_out = digits()
    assert min(held_out.accuracy(SOFTMAX_REGRESSION, weights) for weights in found) > 0.9
    assert all(array.dtype == np.float32 for array in found[0].values())
