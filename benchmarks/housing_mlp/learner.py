"""The HousingMLP as a learner, which also tells when it began and ended its work, and what processor time it took."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from network import loss, make_data, train_epoch

from fedn import Learner

EXAMPLES = 100
"""Of each client, to train on; as many others to evaluate on."""
_EVALUATION_SEED = 1_000_000


class HousingLearner(Learner):
    """Parameters of the plan: `batch_size`, `learning_rate` (0 for stress tests: all is computed, nothing changes)."""

    def __init__(self) -> None:
        self._data: tuple[Any, Any] | None = None

    def get_weights(self) -> Any:
        raise NotImplementedError("the benchmark seeds the model")

    def set_weights(self, weights: Any) -> None:
        raise NotImplementedError("the benchmark trains from what it is given")

    def train(self, weights: Any, context: Any) -> tuple[Any, Mapping[str, float], Mapping[str, Any]]:
        began, cpu = time.time(), time.process_time()
        (features, prices), _ = self._load(context)
        steps = train_epoch(
            weights, features, prices, batch=context["batch_size"], learning_rate=context["learning_rate"]
        )
        metrics = {"began": began, "ended": time.time(), "cpu_s": time.process_time() - cpu}
        return weights, metrics, {"num_examples": EXAMPLES, "num_steps": steps}

    def evaluate(self, weights: Any, context: Any) -> tuple[Mapping[str, float], int]:
        began, cpu = time.time(), time.process_time()
        _, (features, prices) = self._load(context)
        found = loss(weights, features, prices)
        metrics = {"loss": found, "began": began, "ended": time.time(), "cpu_s": time.process_time() - cpu}
        return metrics, EXAMPLES

    def _load(self, context: Any) -> tuple[Any, Any]:
        if self._data is None:
            part = json.loads((Path(context.data_path) / "partition.json").read_text())
            index = int(part["index"])
            self._data = make_data(EXAMPLES, index + 1), make_data(EXAMPLES, _EVALUATION_SEED + index)
        return self._data
