"""Federated learning in groups: equal to its definition, and to FedAvg where a group has one round."""

import numpy as np
import pytest

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers.algorithms import FedAvgServer, Groups, hierarchical_worker
from fedn.workers.algorithms.tensors import descend, weighted_sum
from tests.support.digits import SOFTMAX_REGRESSION, digits, digits_of, start
from tests.support.worker_backends import Run

CLIENTS, GROUPS = 5, 2
SIZE = 1 + GROUPS + CLIENTS


def train(client: int, model: Tensors, round_index: int) -> tuple[Tensors, int]:
    examples = digits_of(client - GROUPS - 1, CLIENTS)
    for step in range(5):
        batch = examples.batch((client, round_index, step), 32)
        model = descend(model, batch.gradient(SOFTMAX_REGRESSION, model), 0.5)
    return model, len(examples.labels)


def learned(run: Run, groups: Groups, *, rounds: int, group_rounds: int) -> Tensors:
    def worker(rank: int) -> Tensors | None:
        found = hierarchical_worker(
            rank,
            groups,
            start(SOFTMAX_REGRESSION),
            lambda model, round_index: train(rank, model, round_index),
            rounds=rounds,
            group_rounds=group_rounds,
        )
        model: Tensors | None = found.run()
        return model

    results = run(SIZE, worker)
    assert results[1:] == [None] * (SIZE - 1)
    model: Tensors = results[0]
    return model


def mean(models: list[tuple[Tensors, int]]) -> tuple[Tensors, int]:
    total = sum(count for _, count in models)
    return weighted_sum((count / total, model) for model, count in models), total


@pytest.mark.mpi
def test_groups_train_by_themselves_and_are_averaged_by_their_examples(run: Run) -> None:
    groups, rounds, group_rounds = Groups.random(SIZE, GROUPS, seed=4), 4, 3
    expected = start(SOFTMAX_REGRESSION)
    for round_index in range(rounds):
        of_groups = []
        for clients in groups.clients:
            model, total = expected, 0
            for group_round in range(group_rounds):
                model, total = mean([train(c, model, round_index * group_rounds + group_round) for c in clients])
            of_groups.append((model, total))
        expected, _ = mean(of_groups)
    found = learned(run, groups, rounds=rounds, group_rounds=group_rounds)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-12)
    assert digits()[1].accuracy(SOFTMAX_REGRESSION, found) > 0.85


def test_one_round_in_each_group_is_fedavg_over_all_clients(run: Run) -> None:
    expected = start(SOFTMAX_REGRESSION)
    for round_index in range(3):
        expected, _ = mean([train(client, expected, round_index) for client in range(GROUPS + 1, SIZE)])
    found = learned(run, Groups.even(SIZE, GROUPS), rounds=3, group_rounds=1)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-12)


def test_every_client_is_in_one_group() -> None:
    for groups in (Groups.even(12, 3), Groups.random(12, 3, seed=1)):
        assert sorted(client for group in groups.clients for client in group) == list(range(4, 12))
        assert {len(group) for group in groups.clients} == {2, 3}
        assert [groups.server_of(group[0]) for group in groups.clients] == [1, 2, 3]
    assert Groups.random(12, 3, seed=1) == Groups.random(12, 3, seed=1) != Groups.random(12, 3, seed=2)
    assert Groups.even(12, 3).clients == ((4, 7, 10), (5, 8, 11), (6, 9))


def test_groups_without_clients_and_clients_without_a_group_are_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot make 3 groups"):
        Groups.even(5, 3)
    with pytest.raises(InvalidInput, match="client of no group"):
        Groups.even(8, 2).server_of(1)


def test_the_server_of_all_knows_the_groups_servers_only(run: Run) -> None:
    def worker(rank: int) -> object:
        found = hierarchical_worker(
            rank, Groups.even(4, 1), {"w": np.zeros(1)}, lambda model, _: (model, 1), rounds=1, group_rounds=1
        )
        found.run()
        return found.averaging.clients if isinstance(found, FedAvgServer) else None

    assert run(4, worker)[0] == [1]
