"""Learners for end-to-end tests: their arithmetic is known, and they write down what they did."""

import json
import threading
from pathlib import Path

import numpy as np

from fedn import Learner, Scaffold, TaskContext


class CountingLearner(Learner):
    """Adds `step` to every weight. Each training is a line in `data_path/trained.jsonl`.

    Parameters: `step` (default 1), `size` of the model (default 10), `pause_s` that a training lasts (default 0).
    A training waits for as long as a file `data_path/hold` exists that has its round's index or a lower one in it, at
    most two minutes.
    """

    def __init__(self) -> None:
        self._weights = [np.zeros(10, np.float32), np.zeros((2, 3), np.float64)]

    def get_weights(self):
        return self._weights

    def set_weights(self, weights):
        self._weights = weights

    def train(self, weights, context: TaskContext):
        folder = Path(context.data_path)
        with (folder / "trained.jsonl").open("a") as log:
            log.write(json.dumps({"session": context.session, "round": context.round}) + "\n")
        never = threading.Event()
        never.wait(float(context.get("pause_s", 0)))
        for _ in range(1200):
            if not _held(folder / "hold", context.round):
                break
            never.wait(0.1)
        examples = int((folder / "examples").read_text()) if (folder / "examples").exists() else 100
        step = float(context.get("step", 1))
        return (
            [w + np.asarray(step, w.dtype) for w in weights],
            {"loss": 1.0 / (context.round + 1)},
            {"num_examples": examples},
        )

    def evaluate(self, weights, context: TaskContext):
        return {"mean": float(weights[0].mean())}, 10

    def predict(self, weights, context: TaskContext):
        return [weights[0] * 2]


def _held(file: Path, round_index: int) -> bool:
    try:
        return round_index >= int(file.read_text())
    except FileNotFoundError:
        return False


class NoisyLearner(CountingLearner):
    """Adds noise that its seed gives, so that every rounding error would show."""

    def train(self, weights, context):
        noise = np.random.default_rng(context.seed)
        examples = 7 + sum(context.client.encode())
        return [w + noise.normal(size=w.shape).astype(w.dtype) for w in weights], {}, {"num_examples": examples}


LARGE_SIZE = 400_000


class LargeLearner(CountingLearner):
    """Its model does not fit into one message, and most of its weights are no round numbers."""

    def __init__(self) -> None:
        self._weights = [np.linspace(-1, 1, LARGE_SIZE, dtype=np.float32), np.arange(6, dtype=np.int64)]


class NoisyLargeLearner(NoisyLearner):
    """As NoisyLearner, with a model that does not fit into one message; writes down and pauses as CountingLearner."""

    def __init__(self) -> None:
        self._weights = [np.linspace(-1, 1, LARGE_SIZE, dtype=np.float32), np.zeros(6)]

    def train(self, weights, context):
        CountingLearner.train(self, [w.copy() for w in weights], context)
        return super().train(weights, context)


class FailingLearner(CountingLearner):
    """Raises in every training."""

    def train(self, weights, context):
        raise ValueError("the data of this site are damaged")


class PoisonLearner(CountingLearner):
    """Returns NaN."""

    def train(self, weights, context):
        return [w * np.nan for w in weights], {}, {"num_examples": 1_000_000}


class DescendingLearner(CountingLearner):
    """Minimizes a/2·(w − m)² with SCAFFOLD, by five steps; a and m are told by the client's number."""

    def __init__(self) -> None:
        self._weights = [np.zeros(3, np.float32), np.zeros((), np.int64)]

    def train(self, weights, context):
        CountingLearner.train(self, [w.copy() for w in weights], context)
        number = int(context.client.rpartition("-")[2])
        scaffold = Scaffold.of(context, weights)
        for _ in range(5):
            weights[0] -= 0.1 * (number * (weights[0] - number**2) + scaffold.gradients()[0])
        extra = scaffold.finish(weights, num_steps=5, learning_rate=0.1)
        return weights, {}, {"num_examples": 1, "num_steps": 5, "extra": extra}


class PacedLearner(CountingLearner):
    """Goes over 32 examples in batches of 8; a step lasts as many milliseconds as `data_path/ms_per_step` says.

    Waits and writes down as CountingLearner.
    """

    def train(self, weights, context):
        folder = Path(context.data_path)
        pace_s = float((folder / "ms_per_step").read_text()) / 1000
        trained, metrics, _ = super().train(weights, context)
        batches, never = context.batches(32, 8), threading.Event()
        for _ in batches:
            never.wait(pace_s)
        return trained, metrics, batches.metadata()
