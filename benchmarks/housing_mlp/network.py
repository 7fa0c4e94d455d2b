"""The HousingMLP: a tower of dense layers with ReLU and one linear output, trained by mini-batch gradient descent.

Weights are a list [W₀, b₀, W₁, b₁, …] of float32, W of shape (inputs, outputs). The loss is the mean squared error.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

FEATURES = 8
HIDDEN = 101
"""Layers with ReLU: one from the features, and a hundred between layers of the same width."""
WIDTHS = {"100k": 32, "1M": 100, "10M": 320}
"""Width of the layers for each size: 105,921, 1,011,001 and 10,275,201 parameters in 204 tensors."""


def layer_sizes(width: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer."""
    return [(FEATURES, width), *[(width, width)] * (HIDDEN - 1), (width, 1)]


def num_params(width: int) -> int:
    return sum(inputs * outputs + outputs for inputs, outputs in layer_sizes(width))


def make_weights(width: int, seed: int) -> list[Array]:
    """He initialization, so that activations keep their size through a hundred layers."""
    rng = np.random.default_rng(seed)
    weights: list[Array] = []
    for inputs, outputs in layer_sizes(width):
        scale = np.float32(np.sqrt(2 / inputs))
        weights.append(rng.standard_normal((inputs, outputs), dtype=np.float32) * scale)
        weights.append(np.zeros(outputs, np.float32))
    return weights


def make_data(count: int, seed: int) -> tuple[Array, Array]:
    """`count` made-up houses: features (count, 8), prices (count, 1) that depend on them, with noise."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, FEATURES), dtype=np.float32)
    # The same for every client: what there is to be learned.
    slopes = np.random.default_rng(0).standard_normal((FEATURES, 1), dtype=np.float32)
    noise = rng.standard_normal((count, 1), dtype=np.float32) * np.float32(0.1)
    return features, features @ slopes + noise


def predict(weights: Sequence[Array], features: Array) -> Array:
    """Prices (n, 1)."""
    return _activations(weights, features)[-1]


def loss(weights: Sequence[Array], features: Array, prices: Array) -> float:
    """Mean squared error."""
    return float(np.mean((predict(weights, features) - prices) ** 2))


def gradient(weights: Sequence[Array], features: Array, prices: Array) -> list[Array]:
    """Of the loss, in the order of the weights."""
    activations = _activations(weights, features)
    flow = (2 / len(features)) * (activations[-1] - prices)
    gradients: list[Array] = [np.empty(0, np.float32)] * len(weights)
    for layer in range(len(weights) // 2 - 1, -1, -1):
        gradients[2 * layer] = activations[layer].T @ flow
        gradients[2 * layer + 1] = flow.sum(axis=0)
        if layer:
            flow = (flow @ weights[2 * layer].T) * (activations[layer] > 0)
    return gradients


def train_epoch(weights: Sequence[Array], features: Array, prices: Array, *, batch: int, learning_rate: float) -> int:
    """One pass over the data in its order, the weights changed in place; the number of steps."""
    steps = 0
    for start in range(0, len(features), batch):
        part = slice(start, start + batch)
        for weight, slope in zip(weights, gradient(weights, features[part], prices[part]), strict=True):
            weight -= np.float32(learning_rate) * slope
        steps += 1
    return steps


def _activations(weights: Sequence[Array], features: Array) -> list[Array]:
    """The input of each layer, and the output of the last."""
    activations = [features]
    for layer in range(len(weights) // 2):
        linear = activations[-1] @ weights[2 * layer] + weights[2 * layer + 1]
        activations.append(linear if layer == len(weights) // 2 - 1 else np.maximum(linear, 0))
    return activations
