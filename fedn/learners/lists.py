"""Learners written against lists of arrays, with the four methods that MetisFL's have.

learner = ListLearner(MyLearner())
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from fedn.client.learner import Learner, Metrics, TaskContext, Weights
from fedn.protocol.errors import InvalidInput

METADATA = {
    "num_training_examples": "num_examples",
    "num_completed_batches": "num_steps",
    "processing_ms_per_batch": "ms_per_step",
    "processing_ms_per_epoch": "ms_per_epoch",
}
"""MetisFL's names to ours; ours may be used as well."""


class ArraysLearner(Protocol):
    """What is wrapped; `params` are the plan's parameters and, where steps are asked for, `num_local_updates`."""

    def get_weights(self) -> list[np.ndarray]: ...

    def set_weights(self, weights: list[np.ndarray]) -> None: ...

    def train(
        self, weights: list[np.ndarray], params: Mapping[str, Any]
    ) -> tuple[list[np.ndarray], Metrics] | tuple[list[np.ndarray], Metrics, Mapping[str, Any]]: ...

    def evaluate(self, weights: list[np.ndarray], params: Mapping[str, Any]) -> Metrics: ...


class ListLearner(Learner):
    """A learner of lists as a Learner. Tensors are named by their positions, and keep their dtypes.

    Args:
        inner: has `get_weights`, `set_weights`, `train(weights, params)` and, to validate, `evaluate(weights, params)`.
    """

    helper = "numpy"

    def __init__(self, inner: ArraysLearner) -> None:
        self._inner = inner

    @property
    def validates(self) -> bool:
        return callable(getattr(self._inner, "evaluate", None))

    def get_weights(self) -> Weights:
        return list(self._inner.get_weights())

    def set_weights(self, weights: Weights) -> None:
        self._inner.set_weights(_as_list(weights))

    def train(self, weights: Any, context: TaskContext) -> tuple[Weights, Metrics, Mapping[str, Any]]:
        returned = self._inner.train(_as_list(weights), _params(context))
        trained, metrics, metadata = returned if len(returned) == 3 else (*returned, {})
        return list(trained), metrics, {METADATA.get(name, name): value for name, value in metadata.items()}

    def evaluate(self, weights: Any, context: TaskContext) -> Metrics:
        return self._inner.evaluate(_as_list(weights), _params(context))


def _params(context: TaskContext) -> dict[str, Any]:
    steps = {} if context.step_budget is None else {"num_local_updates": context.step_budget}
    return {**context.parameters, **steps}


def _as_list(weights: Weights) -> list[np.ndarray]:
    if isinstance(weights, Mapping):
        raise InvalidInput(
            "weights_do_not_fit",
            "the model has named tensors, and a learner of lists takes them by position",
            fix="Start from a model that such a learner made, or write a fedn.Learner.",
        )
    return list(weights)
