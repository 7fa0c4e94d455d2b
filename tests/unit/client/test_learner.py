"""What a data scientist sees: contexts, and learners that leave the weights to their helper."""

from typing import Any

import numpy as np
import pytest

from fedn import Learner, TaskContext
from fedn.client.seeds import task_seed
from fedn.protocol.errors import InvalidInput


class Arrays(Learner):
    def __init__(self) -> None:
        self.model = [np.zeros(2, np.float32), np.ones(1, np.float32)]

    def train(self, weights: Any, context: TaskContext) -> Any:
        return weights, {"num_examples": 1}


def context(**fields: Any) -> TaskContext:
    return TaskContext(**({"session": "s", "round": 0, "client": "alice", "kind": "train"} | fields))


def test_context_is_a_mapping_of_the_hyper_parameters() -> None:
    given = context(parameters={"epochs": 3})
    assert given["epochs"] == 3
    assert given.get("rate", 0.1) == 0.1
    assert dict(given) == {"epochs": 3} and len(given) == 1


def test_context_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        context().round = 3  # type: ignore[misc]


def test_learner_with_a_model_gets_and_sets_weights_by_its_helper() -> None:
    learner = Arrays()
    assert list(learner.get_weights()) == ["0", "1"]
    learner.set_weights([np.full(2, 5, np.float32), np.zeros(1, np.float32)])
    np.testing.assert_array_equal(learner.model[0], [5, 5])
    with pytest.raises(InvalidInput, match="weights_do_not_fit"):
        learner.set_weights([np.zeros(3, np.float32), np.zeros(1, np.float32)])


def test_learner_without_model_must_write_the_methods_itself() -> None:
    learner = Arrays()
    del learner.model
    with pytest.raises(NotImplementedError, match="get_weights"):
        learner.get_weights()


def test_seed_repeats_and_differs_between_clients_and_rounds() -> None:
    assert task_seed(1, "alice", 2) == task_seed(1, "alice", 2)
    seeds = {task_seed(1, "alice", 2), task_seed(1, "bob", 2), task_seed(1, "alice", 3), task_seed(2, "alice", 2)}
    assert len(seeds) == 4
    assert all(0 <= seed < 1 << 31 for seed in seeds)
