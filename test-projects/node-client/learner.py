"""The same softmax regression for clients in Python, beside the one in JavaScript; data: site.csv in --data-path."""

from pathlib import Path
from typing import Any

import numpy as np
from site_data import read_site

from fedn import Learner, TaskContext


class SoftmaxLearner(Learner):
    """Reads these parameters of the session's plan: epochs (2), batch_size (16), learning_rate (0.3)."""

    helper = "numpy"

    def __init__(self) -> None:
        self.weights: dict[str, Any] = new_model()

    def get_weights(self) -> dict[str, Any]:
        return self.weights

    def set_weights(self, weights: dict[str, Any]) -> None:
        self.weights = weights

    def train(self, weights: dict[str, Any], context: TaskContext) -> tuple[Any, dict[str, float], dict[str, Any]]:
        images, labels = read_site(Path(context.data_path) / "site.csv", "train")
        batch_size = min(int(context.get("batch_size", 16)), len(labels))
        model = {name: array.copy() for name, array in weights.items()}
        draw = np.random.default_rng(context.seed)
        steps, loss = 0, 0.0
        for _ in range(int(context.get("epochs", 2))):
            for batch in np.array_split(draw.permutation(len(labels)), -(-len(labels) // batch_size)):
                chances = predict(model, images[batch])
                rows = np.arange(len(batch))
                loss = float(-np.log(chances[rows, labels[batch]]).mean())
                chances[rows, labels[batch]] -= 1
                rate = float(context.get("learning_rate", 0.3)) / len(batch)
                model["weight"] -= rate * images[batch].T @ chances
                model["bias"] -= rate * chances.sum(axis=0)
                steps += 1
        return model, {"train_loss": loss}, {"num_examples": len(labels), "num_steps": steps}

    def evaluate(self, weights: dict[str, Any], context: TaskContext) -> tuple[dict[str, float], int]:
        images, labels = read_site(Path(context.data_path) / "site.csv", "held_out")
        chances = predict(weights, images)
        loss = float(-np.log(np.maximum(chances[np.arange(len(labels)), labels], 1e-12)).mean())
        return {"accuracy": float(np.mean(chances.argmax(axis=1) == labels)), "loss": loss}, len(labels)


def new_model() -> dict[str, np.ndarray]:
    """The model to start from: all zeros, float32."""
    return {"weight": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}


def predict(model: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The chance of each digit (n, 10)."""
    logits = images @ model["weight"] + model["bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
