"""What a learner may return, and what it is told when it returns something else."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedn import Learner, TaskContext
from fedn.client.coding import CodingRequest, TaskCoding
from fedn.client.execution import execute, kinds_of
from fedn.client.learner import TrainResult
from fedn.models.wire import encode
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskKind

MODEL = encode({"w": np.zeros(2, np.float32)})
WEIGHTS = {"w": np.ones(2, np.float32)}


class Scripted(Learner):
    """Returns what a test says."""

    def __init__(self, train: Callable[[], Any], evaluate: Callable[[], Any] = dict) -> None:
        self._train = train
        self._evaluate = evaluate

    def train(self, weights: Any, context: TaskContext) -> Any:
        return self._train()

    def evaluate(self, weights: Any, context: TaskContext) -> Any:
        return self._evaluate()


def do(kind: str, learner: Learner, *, validate_incoming: bool = False) -> Any:
    context = TaskContext(session="s", round=0, client="alice", kind=kind)
    coding = TaskCoding(CodingRequest(session="s", round=0, task_id="t"), bytearray(MODEL))
    return execute(learner, context, coding, validate_incoming=validate_incoming)


@pytest.mark.parametrize(
    "returned",
    [
        TrainResult(weights=WEIGHTS, num_examples=4, metrics={"loss": np.float32(0.5)}, num_steps=2),
        (WEIGHTS, {"loss": 0.5}, {"num_examples": np.int64(4), "num_steps": 2}),
        (WEIGHTS, {"loss": np.array(0.5), "num_examples": 4}, {"num_steps": 2}),
    ],
)
def test_training_may_be_returned_in_three_forms(returned: Any) -> None:
    result = do("train", Scripted(lambda: returned))
    assert result.tensors["w"].tolist() == [1, 1]
    numbers = result.numbers
    assert (numbers["num_examples"], numbers["num_steps"], numbers["metrics"]) == (4, 2, {"loss": 0.5})


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ((WEIGHTS, {"loss": 1.0}), "no num_examples"),
        ((WEIGHTS, {"num_examples": 0}), "at least 1"),
        ((WEIGHTS, {"num_examples": 2.5}), "whole number"),
        ((WEIGHTS, {"num_examples": math.nan}), "whole number"),
        ((WEIGHTS, {"loss": "low", "num_examples": 1}), "metric 'loss'"),
        ((WEIGHTS, {"loss": [1, 2], "num_examples": 1}), "metric 'loss'"),
        ((WEIGHTS, {}, {"num_examples": 1, "speed": 3}), "unknown metadata speed"),
        ((WEIGHTS, {}, {"num_examples": 1, "ms_per_step": -1}), "ms_per_step"),
        ((WEIGHTS, 3.0), "no mapping"),
        (WEIGHTS, "must return a TrainResult"),
        (None, "must return a TrainResult"),
    ],
)
def test_wrong_results_of_training_are_named(returned: Any, text: str) -> None:
    with pytest.raises(TaskFailed, match=text) as caught:
        do("train", Scripted(lambda: returned))
    assert caught.value.code == "bad_result"


def test_diverged_loss_is_worth_seeing() -> None:
    result = do("train", Scripted(lambda: (WEIGHTS, {"loss": math.nan, "num_examples": 1})))
    assert math.isnan(result.numbers["metrics"]["loss"])


@pytest.mark.parametrize("returned", [({"acc": 0.5}, 9), {"acc": 0.5, "num_examples": 9}])
def test_evaluation_may_be_returned_in_two_forms(returned: Any) -> None:
    learner = Scripted(lambda: (WEIGHTS, {"num_examples": 1}), lambda: returned)
    numbers = do("validate", learner).numbers
    assert numbers.pop("validate_ms") > 0
    assert numbers == {"metrics": {"acc": 0.5}, "num_examples": 9}
    numbers = do("train", learner, validate_incoming=True).numbers
    assert (numbers["validation"], numbers["num_validation_examples"]) == ({"acc": 0.5}, 9)


def test_wrong_results_of_evaluation_are_named() -> None:
    with pytest.raises(TaskFailed, match="evaluate returned float"):
        do("validate", Scripted(dict, lambda: 0.5))


def test_errors_of_the_learner_carry_their_text_and_place() -> None:
    def broken() -> Any:
        raise KeyError("age")

    with pytest.raises(TaskFailed, match=r"train failed: KeyError: 'age' \(line \d+ of test_execution.py"):
        do("train", Scripted(broken))


def test_learner_without_evaluate_trains_without_validation() -> None:
    class Plain(Learner):
        def train(self, weights: Any, context: TaskContext) -> Any:
            return weights, {"num_examples": 1}

    assert kinds_of(Plain()) == [TaskKind.INIT, TaskKind.TRAIN]
    assert "validation" not in do("train", Plain(), validate_incoming=True).numbers
    with pytest.raises(TaskFailed, match="has no evaluate"):
        do("validate", Plain())
