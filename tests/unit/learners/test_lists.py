"""A learner as MetisFL's are written, in a worker as any other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fedn import TaskContext
from fedn.client.execution import kinds_of
from fedn.learners.lists import ListLearner
from fedn.protocol.errors import InvalidInput
from fedn.protocol.tasks import TaskKind


class Plain:
    """Lists in, lists out, MetisFL's names for what it did."""

    def __init__(self) -> None:
        self.weights = [np.zeros(3, np.float32), np.array(7)]

    def get_weights(self) -> list[np.ndarray]:
        return self.weights

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = weights

    def train(self, weights: list[np.ndarray], params: Mapping[str, Any]) -> Any:
        steps = params.get("num_local_updates", params["epochs"] * 10)
        trained = [array + np.asarray(steps, array.dtype) for array in weights]
        metadata = {
            "num_training_examples": 40,
            "num_completed_batches": steps,
            "processing_ms_per_batch": 2.0,
            "processing_ms_per_epoch": 20.0,
        }
        return trained, {"loss": 0.5}, metadata

    def evaluate(self, weights: list[np.ndarray], params: Mapping[str, Any]) -> dict[str, float]:
        return {"mean": float(weights[0].mean())}


class Trainer(Plain):
    evaluate = None  # type: ignore[assignment]


def context(**fields: object) -> TaskContext:
    return TaskContext(**({"session": "s", "round": 0, "client": "me", "kind": "train"} | fields))


@pytest.mark.parametrize(("budget", "steps"), [(None, 20), (3, 3)])
def test_a_learner_of_lists_trains_with_the_plans_parameters_and_budget(budget: int | None, steps: int) -> None:
    learner = ListLearner(Plain())
    task = context(parameters={"epochs": 2}, step_budget=budget)
    weights, metrics, metadata = learner.train(learner.get_weights(), task)
    assert metadata == {"num_examples": 40, "num_steps": steps, "ms_per_step": 2.0, "ms_per_epoch": 20.0}
    assert metrics == {"loss": 0.5}
    np.testing.assert_array_equal(weights[0], np.full(3, steps, np.float32))
    assert weights[1] == 7 + steps and weights[1].dtype == np.int64
    assert learner.evaluate(weights, task) == {"mean": float(steps)}


def test_a_learner_without_evaluate_does_not_validate() -> None:
    assert kinds_of(ListLearner(Plain())) == [TaskKind.INIT, TaskKind.TRAIN, TaskKind.VALIDATE]
    assert kinds_of(ListLearner(Trainer())) == [TaskKind.INIT, TaskKind.TRAIN]


def test_a_model_of_named_tensors_is_refused() -> None:
    with pytest.raises(InvalidInput, match="named tensors"):
        ListLearner(Plain()).train({"w": np.zeros(3)}, context())
