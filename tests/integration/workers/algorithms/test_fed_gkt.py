"""Group knowledge transfer: its losses, its rounds, and that both sides learn from each other."""

import numpy as np
import pytest

from fedn.models.wire import Tensors
from fedn.workers.algorithms import GktClient, GktServer, Schooling
from fedn.workers.algorithms.fed_gkt import distillation, school
from fedn.workers.algorithms.networks import Dense, Network, Relu
from tests.support.digits import PERCEPTRON, digits, digits_of, start
from tests.support.worker_backends import Run

LARGE = Network([Dense(32, 96), Relu(), Dense(96, 10)])
FEATURES_AT = 2
CLIENTS = 3
ALPHA = 2.0
"""How uneven the clients' digits are."""


def test_distillation_is_the_divergence_and_has_the_gradient_of_finite_differences() -> None:
    draw = np.random.default_rng(2)
    student, teacher, temperature = draw.standard_normal((4, 5)), draw.standard_normal((4, 5)), 2.5
    loss, gradient = distillation(student, teacher, temperature)

    def softened(logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softened(teacher), softened(student)
    assert loss == pytest.approx(temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1)))
    for place in np.ndindex(student.shape):
        step = np.zeros_like(student)
        step[place] = 1e-6
        above, below = (distillation(student + sign * step, teacher, temperature)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx((above - below) / 2e-6, abs=1e-7)
    assert distillation(teacher, teacher, temperature)[0] == pytest.approx(0)


def run_gkt(run: Run, rounds: int, how: Schooling) -> tuple[Tensors, list[float], list[Tensors]]:
    _, held_out = digits()

    def worker(rank: int) -> tuple[Tensors, list[float]]:
        if rank == 0:
            server = GktServer(LARGE, start(LARGE), rounds, how)
            return server.run(), server.accuracies
        mine = digits_of(rank - 1, CLIENTS, ALPHA)
        part = slice(rank - 1, None, CLIENTS)
        client = GktClient(
            PERCEPTRON,
            FEATURES_AT,
            start(PERCEPTRON, seed=7),
            (mine.images, mine.labels),
            (held_out.images[part], held_out.labels[part]),
            rounds,
            how,
        )
        return client.run(), []

    (server, accuracies), *clients = run(CLIENTS + 1, worker)
    return server, accuracies, [weights for weights, _ in clients]


@pytest.mark.mpi
def test_rounds_are_those_of_the_algorithm(run: Run) -> None:
    rounds, how = 3, Schooling(epochs=1, batch_size=64, learning_rate=0.1, temperature=2.0, weight=0.7)
    server, _, clients = run_gkt(run, rounds, how)
    large, small = start(LARGE), [start(PERCEPTRON, seed=7)] * CLIENTS
    data = [digits_of(site, CLIENTS, ALPHA) for site in range(CLIENTS)]
    advice: list[np.ndarray | None] = [None] * CLIENTS
    for t in range(rounds):
        small = [
            school(PERCEPTRON, small[k], data[k].images, data[k].labels, advice[k], how, [0, k + 1, t])
            for k in range(CLIENTS)
        ]
        hidden = [np.maximum(d.images @ w["0.weight"] + w["0.bias"], 0) for d, w in zip(data, small, strict=True)]
        logits = [h @ w["2.weight"] + w["2.bias"] for h, w in zip(hidden, small, strict=True)]
        labels = np.concatenate([d.labels for d in data])
        large = school(LARGE, large, np.concatenate(hidden), labels, np.concatenate(logits), how, [0, t])
        advice = [LARGE.forward(large, h) for h in hidden]
    for name, array in large.items():
        np.testing.assert_allclose(server[name], array, atol=1e-10)
    for found, expected in zip(clients, small, strict=True):
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, atol=1e-10)


def test_schooling_without_a_teacher_is_sgd_on_labels_and_with_one_it_follows_it() -> None:
    examples = digits_of(0, CLIENTS, ALPHA)
    how = Schooling(epochs=1, batch_size=len(examples.labels), learning_rate=0.1)
    weights = start(PERCEPTRON)
    plain = school(PERCEPTRON, weights, examples.images, examples.labels, None, how, [0])
    gradient = examples.gradient(PERCEPTRON, weights)
    for name, array in weights.items():
        np.testing.assert_allclose(plain[name], array - 0.1 * gradient[name], atol=1e-12)
    teacher = np.zeros((len(examples.labels), 10))
    teacher[:, 3] = 20.0
    follows = Schooling(epochs=20, batch_size=64, learning_rate=0.1, weight=50.0)
    taught = school(PERCEPTRON, weights, examples.images, examples.labels, teacher, follows, [0])
    assert np.mean(PERCEPTRON.forward(taught, examples.images).argmax(axis=1) == 3) > 0.95


def test_the_large_network_comes_to_read_digits_better_than_the_small_ones(run: Run) -> None:
    how = Schooling(epochs=4, batch_size=32, learning_rate=0.2)
    _, accuracies, clients = run_gkt(run, 12, how)
    _, held_out = digits()
    assert len(accuracies) == 12
    assert accuracies[-1] > 0.93 > accuracies[0]
    assert accuracies[-1] > np.mean([held_out.accuracy(PERCEPTRON, weights) for weights in clients])
