"""A learner that trains nothing: it adds a constant of its own to the weights and returns at once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from workload import NUM_EXAMPLES, shift_of

from fedn import Learner


class NoopLearner(Learner):
    """Client i adds `shift_of(i)` to every weight and stands for 100 examples."""

    def __init__(self) -> None:
        self._shift: np.float32 | None = None

    def get_weights(self) -> Any:
        raise NotImplementedError("the benchmark seeds the model")

    def set_weights(self, weights: Any) -> None:
        raise NotImplementedError("the benchmark trains from what it is given")

    def train(self, weights: Any, context: Any) -> tuple[Any, Mapping[str, float], Mapping[str, Any]]:
        if self._shift is None:
            part = json.loads((Path(context.data_path) / "partition.json").read_text())
            self._shift = shift_of(part["index"])
        for array in weights:
            np.add(array, self._shift, out=array)
        return weights, {}, {"num_examples": NUM_EXAMPLES}
