"""A learner that trains nothing: it adds a constant of its own to the weights and returns at once."""

import json
from pathlib import Path

import numpy as np

from fedn import Learner

STEP = 0.01
TENSORS = 20


def make_model(params: int) -> list[np.ndarray]:
    """`params` float32 values in 20 tensors that all differ."""
    rng = np.random.default_rng(7)
    return [rng.standard_normal(params // TENSORS, dtype=np.float32) for _ in range(TENSORS)]


class NoopLearner(Learner):
    """Client i adds (i + 1) * STEP to every weight and stands for 100 examples."""

    def __init__(self) -> None:
        self._shift: np.float32 | None = None

    def get_weights(self):
        raise NotImplementedError("the benchmark seeds the model")

    def set_weights(self, weights):
        raise NotImplementedError("the benchmark trains from what it is given")

    def train(self, weights, context):
        if self._shift is None:
            part = json.loads((Path(context.data_path) / "partition.json").read_text())
            self._shift = np.float32((part["index"] + 1) * STEP)
        for array in weights:
            np.add(array, self._shift, out=array)
        return weights, {}, {"num_examples": 100}
