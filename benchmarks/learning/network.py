"""A multilayer perceptron in NumPy: ReLU between the layers, softmax and cross-entropy behind them, plain SGD."""

import itertools
from typing import Any

import numpy as np

from benchmarks.learning.data import DataSet, Examples

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
"""`w0`, `b0`, `w1` …, float32."""

_BATCH = 32


def make(data: DataSet, seed: int) -> Weights:
    """Fresh weights (He et al. 2015)."""
    rng = np.random.default_rng(seed)
    widths = [data.train.inputs.shape[1], *data.hidden, data.classes]
    weights: Weights = {}
    for layer, (rows, columns) in enumerate(itertools.pairwise(widths)):
        weights[f"w{layer}"] = (rng.standard_normal((rows, columns)) * np.sqrt(2 / rows)).astype(np.float32)
        weights[f"b{layer}"] = np.zeros(columns, np.float32)
    return weights


def train(weights: Weights, examples: Examples, learning_rate: float, seed: tuple[int, ...]) -> None:
    """One epoch, in place."""
    order = np.random.default_rng(seed).permutation(len(examples))
    for start in range(0, len(order), _BATCH):
        batch = examples.part(order[start : start + _BATCH])
        _step(weights, batch, np.float32(learning_rate))


def accuracy(weights: Weights, examples: Examples) -> float:
    """Share of the examples that are classified rightly."""
    return float((_forward(weights, examples.inputs)[-1].argmax(1) == examples.labels).mean())


def _forward(weights: Weights, inputs: Array) -> list[Array]:
    """What each layer gets, and at last the logits."""
    layers = len(weights) // 2
    found = [inputs]
    for layer in range(layers):
        out = found[-1] @ weights[f"w{layer}"] + weights[f"b{layer}"]
        found.append(np.maximum(out, 0) if layer < layers - 1 else out)
    return found


def _step(weights: Weights, batch: Examples, learning_rate: np.float32) -> None:
    layers = _forward(weights, batch.inputs)
    logits = layers.pop()
    shares = np.exp(logits - logits.max(1, keepdims=True))
    gradient = shares / shares.sum(1, keepdims=True)
    gradient[np.arange(len(batch)), batch.labels] -= 1
    gradient /= len(batch)
    for layer in reversed(range(len(layers))):
        inputs = layers[layer]
        onwards = gradient @ weights[f"w{layer}"].T * (inputs > 0)
        weights[f"w{layer}"] -= learning_rate * (inputs.T @ gradient)
        weights[f"b{layer}"] -= learning_rate * gradient.sum(0)
        gradient = onwards
