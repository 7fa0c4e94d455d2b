"""The base framework, and FedAvg on the worker API."""

import threading

import numpy as np
import pytest

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers import RoundIncomplete, WorkerManager
from fedn.workers.algorithms import BaseClient, BaseServer, FedAvgClient, FedAvgServer
from fedn.workers.algorithms.fedavg import Averaging
from fedn.workers.algorithms.tensors import descend
from tests.support.digits import SOFTMAX_REGRESSION, digits, digits_of, start
from tests.support.worker_backends import Run

SITES = 4


@pytest.mark.mpi
def test_the_base_framework_adds_up_numbers_in_each_round(run: Run) -> None:
    def worker(rank: int) -> list[float]:
        if rank == 0:
            return BaseServer(5).run()
        client = BaseClient(10.0**rank)
        client.run()
        return client.heard

    results = run(4, worker)
    assert results[0] == [1110.0] * 5
    assert results[1:] == [[0.0] + [1110.0] * 4] * 3


def train(site: int, model: Tensors, round_index: int) -> tuple[Tensors, int]:
    """Ten steps of SGD on a site's own digits."""
    examples = digits_of(site, SITES)
    for step in range(10):
        batch = examples.batch((site, round_index, step), 32)
        model = descend(model, batch.gradient(SOFTMAX_REGRESSION, model), 0.5)
    return model, len(examples.labels)


@pytest.mark.mpi
def test_fedavg_equals_its_definition_and_learns_digits(run: Run) -> None:
    rounds = 8

    def worker(rank: int) -> tuple[Tensors, list[int]] | None:
        if rank == 0:
            seen: list[int] = []
            server = FedAvgServer(start(SOFTMAX_REGRESSION), rounds, on_round=lambda *_: seen.append(_[0]))
            return server.run(), seen
        FedAvgClient(lambda model, round_index: train(rank - 1, model, round_index)).run()
        return None

    found, seen = run(SITES + 1, worker)[0]
    expected = start(SOFTMAX_REGRESSION)
    for round_index in range(rounds):
        local = [train(site, expected, round_index) for site in range(SITES)]
        total = sum(count for _, count in local)
        expected = {name: sum(count / total * model[name] for model, count in local) for name in expected}
    assert seen == list(range(rounds))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-12)
    assert digits()[1].accuracy(SOFTMAX_REGRESSION, found) > 0.85


def test_a_part_of_the_clients_trains_drawn_by_seed_and_round(run: Run) -> None:
    asked: list[tuple[int, int]] = []

    def worker(rank: int) -> list[list[int]] | None:
        if rank == 0:
            server = FedAvgServer({"w": np.zeros(2)}, 6, clients_per_round=2, seed=3)
            assert np.array_equal(server.run()["w"], [6.0, 6.0])
            return [server.averaging.cohort(round_index) for round_index in range(6)]

        def count(model: Tensors, round_index: int) -> tuple[Tensors, int]:
            asked.append((round_index, rank))
            return {"w": model["w"] + 1}, 1

        FedAvgClient(count).run()
        return None

    cohorts = run(6, worker)[0]
    assert sorted(asked) == [(index, client) for index, cohort in enumerate(cohorts) for client in cohort]
    assert len({tuple(cohort) for cohort in cohorts}) > 1


def test_with_a_quorum_the_rounds_go_on_without_a_lost_client(run: Run) -> None:
    def worker(rank: int) -> Tensors | None:
        if rank == 0:
            model: Tensors = FedAvgServer({"w": np.zeros(1)}, 5, quorum=2).run()
            return model
        if rank == 3:
            WorkerManager().com_manager.close("its disk is full")
            return None
        FedAvgClient(lambda model, round_index: ({"w": model["w"] + rank}, 1)).run()
        return None

    assert run(4, worker)[0]["w"] == pytest.approx(5 * 1.5)


def test_a_late_client_ends_well_when_the_server_has_finished_without_it(run: Run) -> None:
    finished = threading.Event()

    def worker(rank: int) -> str:
        if rank == 0:
            FedAvgServer({"w": np.zeros(1)}, 1, quorum=1, timeout_s=2.0).run()
            finished.set()
            return "finished"

        def train(model: Tensors, round_index: int) -> tuple[Tensors, int]:
            if rank == 2:
                finished.wait(60)
            return model, 1

        FedAvgClient(train).run()
        return "ended"

    assert run(3, worker) == ["finished", "ended", "ended"]


def test_without_a_quorum_a_silent_client_fails_the_round_in_time(run: Run) -> None:
    class Silent(WorkerManager):
        def register_message_receive_handlers(self) -> None:
            self.register_message_receive_handler("global_model", lambda message: None)

        def peer_lost(self, rank: int, reason: str) -> None:
            self.finish()

    def worker(rank: int) -> None:
        if rank == 0:
            with pytest.raises(RoundIncomplete, match="from 1 within"):
                FedAvgServer({"w": np.zeros(1)}, 1, timeout_s=0.2).run()
        else:
            Silent().run()

    run(2, worker)


@pytest.mark.parametrize(
    ("options", "code"),
    [({"clients_per_round": 4}, "bad_cohort"), ({"clients_per_round": 0}, "bad_cohort"), ({"quorum": 4}, "bad_quorum")],
)
def test_more_clients_than_there_are_cannot_be_asked(options: dict[str, int], code: str, run: Run) -> None:
    def worker(rank: int) -> None:
        with pytest.raises(InvalidInput) as caught:
            Averaging(WorkerManager(), [1, 2, 3], **options)
        assert caught.value.code == code

    run(1, worker)
