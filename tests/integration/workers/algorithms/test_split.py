"""Split learning and vertical learning: equal to training in one place, with nobody having it all."""

import numpy as np
import pytest

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers.algorithms import Guest, Host, SplitClient, SplitServer
from fedn.workers.algorithms.networks import Dense, Network, accuracy, gradient_of_cross_entropy
from fedn.workers.algorithms.tensors import Array, descend
from fedn.workers.algorithms.vertical import logistic_loss
from tests.support.digits import PERCEPTRON, Examples, digits, digits_of, start
from tests.support.worker_backends import Run

BOTTOM, TOP = Network(PERCEPTRON.layers[:2]), Network(PERCEPTRON.layers[2:])
RATE = 0.1


def batches_of(client: int, clients: int, epoch: int) -> list[tuple[Array, Array]]:
    examples = digits_of(client - 1, clients, alpha=2)
    order = np.random.default_rng([client, epoch]).permutation(len(examples.labels))
    return [(examples.images[rows], examples.labels[rows]) for rows in np.array_split(order, -(-len(order) // 16))]


@pytest.mark.mpi
@pytest.mark.parametrize(("clients", "epochs"), [(3, 10), (1, 2)])
def test_split_learning_equals_training_the_whole_network_in_one_place(clients: int, epochs: int, run: Run) -> None:
    whole = start(PERCEPTRON)
    bottom = {name: array for name, array in whole.items() if name.startswith("0.")}
    top = {name.replace("2.", "0."): array for name, array in whole.items() if name.startswith("2.")}
    _, held_out = digits()

    def worker(rank: int) -> tuple[Tensors, list[float]]:
        if rank == 0:
            server = SplitServer(TOP, top, epochs, RATE)
            return server.run(), server.losses
        client = SplitClient(
            BOTTOM,
            bottom,
            lambda epoch: batches_of(rank, clients, epoch),
            (held_out.images, held_out.labels),
            epochs,
            RATE,
        )
        return client.run(), [client.accuracy]

    (found_top, losses), *parties = run(clients + 1, worker)
    expected_losses = []
    for epoch in range(epochs):
        for client in range(1, clients + 1):
            for inputs, labels in batches_of(client, clients, epoch):
                loss, gradient = gradient_of_cross_entropy(PERCEPTRON, whole, inputs, labels)
                whole = descend(whole, gradient, RATE)
                expected_losses.append(loss)
    np.testing.assert_allclose(losses, expected_losses, atol=1e-10)
    for name in ("weight", "bias"):
        np.testing.assert_allclose(found_top[f"0.{name}"], whole[f"2.{name}"], atol=1e-10)
        for found_bottom, _ in parties:
            np.testing.assert_allclose(found_bottom[f"0.{name}"], whole[f"0.{name}"], atol=1e-10)
    measured = [found for _, (found,) in parties]
    assert measured == [held_out.accuracy(PERCEPTRON, whole)] * clients
    if clients == 3:
        assert measured[0] > 0.85


HALF = Network([Dense(32, 10)])


def parts_of(examples: Examples) -> list[Array]:
    """What each of two parties knows of the digits: the upper and the lower half of each image."""
    return [examples.images[:, :32], examples.images[:, 32:]]


@pytest.mark.mpi
def test_vertical_learning_equals_regression_on_all_features(run: Run) -> None:
    train, held_out = digits()
    images = Examples(np.concatenate([train.images, held_out.images]), np.concatenate([train.labels, held_out.labels]))
    names, train_rows = [f"patient {row}" for row in range(len(images.labels))], np.arange(len(train.labels))
    held_out_rows = np.arange(len(train.labels), len(images.labels))
    first = [start(HALF, seed) for seed in range(2)]
    steps, size, rate = 250, 64, 0.5

    def worker(rank: int) -> tuple[Tensors, float | None]:
        features = parts_of(images)[rank]
        if rank == 1:
            host = Host(HALF, first[1], features, names, rate)
            host.run()
            return host.weights, None
        measured = []

        def measure(guest: Guest) -> None:
            measured.append(accuracy(guest.predict(held_out_rows), images.labels[held_out_rows]))

        guest = Guest(
            HALF,
            first[0],
            features,
            images.labels,
            names,
            train_rows=train_rows,
            steps=steps,
            batch_size=size,
            learning_rate=rate,
            on_end=measure,
        )
        return guest.run(), measured[0]

    found = run(2, worker)
    weights = np.concatenate([first[0]["0.weight"], first[1]["0.weight"]])
    biases = [first[0]["0.bias"], first[1]["0.bias"]]
    for step in range(steps):
        rows = np.random.default_rng([0, step]).choice(train_rows, size, replace=False)
        logits = images.images[rows] @ weights + biases[0] + biases[1]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        chances[np.arange(size), images.labels[rows]] -= 1
        weights = weights - rate * images.images[rows].T @ chances / size
        biases = [bias - rate * chances.mean(axis=0) for bias in biases]
    for party, (trained, _) in enumerate(found):
        np.testing.assert_allclose(trained["0.weight"], weights[32 * party : 32 * (party + 1)], atol=1e-9)
        np.testing.assert_allclose(trained["0.bias"], biases[party], atol=1e-9)
    assert found[0][1] > 0.9
    # With its half of each image alone, the guest does worse.
    alone = start(HALF)
    upper = Examples(parts_of(train)[0], train.labels)
    for step in range(steps):
        alone = descend(alone, upper.batch((step,), size).gradient(HALF, alone), rate)
    assert accuracy(HALF.forward(alone, parts_of(held_out)[0]), held_out.labels) < found[0][1] - 0.05


def test_logistic_regression_of_three_parties_tells_large_digits_from_small_ones(run: Run) -> None:
    train, _ = digits()
    labels = (train.labels >= 5).astype(int)
    columns = np.array_split(np.arange(64), 3)
    names = list(map(str, range(len(labels))))

    def worker(rank: int) -> float:
        mine = train.images[:, columns[rank]]
        network = Network([Dense(mine.shape[1], 1)])
        if rank > 0:
            Host(network, start(network), mine, names, 0.5).run()
            return 0.0
        rows, chances = np.arange(len(labels)), []
        guest = Guest(
            network,
            start(network),
            mine,
            labels,
            names,
            train_rows=rows,
            steps=150,
            batch_size=128,
            learning_rate=0.5,
            loss=logistic_loss,
            on_end=lambda guest: chances.append(guest.predict(rows)),
        )
        guest.run()
        return float(np.mean((chances[0][:, 0] > 0) == labels))

    assert run(3, worker)[0] > 0.85


def test_the_logistic_loss_has_the_gradient_of_finite_differences_and_does_not_overflow() -> None:
    draw = np.random.default_rng(0)
    logits, labels = draw.standard_normal((6, 1)), draw.integers(0, 2, 6)
    _, gradient = logistic_loss(logits, labels)
    for row in range(6):
        step = np.zeros_like(logits)
        step[row] = 1e-6
        difference = logistic_loss(logits + step, labels)[0] - logistic_loss(logits - step, labels)[0]
        assert gradient[row, 0] == pytest.approx(difference / 2e-6, abs=1e-8)
    assert logistic_loss(np.array([[-1000.0], [1000.0]]), np.array([1, 0]))[0] == pytest.approx(1000)


def test_rows_in_another_order_are_noticed_before_anything_is_trained(run: Run) -> None:
    def worker(rank: int) -> None:
        features, names = np.zeros((3, 32)), ["a", "b", "c"]
        if rank == 1:
            Host(HALF, start(HALF), features, names[::-1], 0.1).run()
        else:
            rows = np.arange(3)
            Guest(
                HALF,
                start(HALF),
                features,
                rows,
                names,
                train_rows=rows,
                steps=1,
                batch_size=1,
                learning_rate=0.1,
            ).run()

    with pytest.raises(InvalidInput, match="not those of the guest"):
        run(2, worker)
