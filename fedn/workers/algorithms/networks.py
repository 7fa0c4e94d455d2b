"""Small networks in NumPy, as pure functions of their weights: enough to learn from, and to check algorithms with.

A network is layers; its weights are named arrays (`0.weight`, `0.bias`, `2.weight`, …: the layer's place first). Not
here: training (the algorithms), and anything for large networks (use a framework: an algorithm asks for functions).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fedn.models.wire import Tensors
from fedn.workers.algorithms.tensors import Array


class Layer(Protocol):
    """One step of a network. `inputs` are (n, width), and so are outputs and gradients."""

    def init(self, draw: np.random.Generator) -> Tensors:
        """Its weights to start from, float32; none where it has none."""

    def forward(self, weights: Mapping[str, Array], inputs: Array) -> Array:
        """Its outputs."""

    def backward(self, weights: Mapping[str, Array], inputs: Array, gradient: Array) -> tuple[Tensors, Array]:
        """From the loss' gradient by the outputs: those by the weights and by the inputs."""


@dataclass(frozen=True)
class Dense:
    """outputs = inputs · weight + bias."""

    inputs: int
    outputs: int

    def init(self, draw: np.random.Generator) -> Tensors:
        """Glorot's uniform weights (Glorot and Bengio 2010, eq. 16), and no bias."""
        limit = np.sqrt(6 / (self.inputs + self.outputs))
        weight = draw.uniform(-limit, limit, (self.inputs, self.outputs)).astype(np.float32)
        return {"weight": weight, "bias": np.zeros(self.outputs, np.float32)}

    def forward(self, weights: Mapping[str, Array], inputs: Array) -> Array:
        outputs: Array = inputs @ weights["weight"] + weights["bias"]
        return outputs

    def backward(self, weights: Mapping[str, Array], inputs: Array, gradient: Array) -> tuple[Tensors, Array]:
        return {"weight": inputs.T @ gradient, "bias": gradient.sum(axis=0)}, gradient @ weights["weight"].T


@dataclass(frozen=True)
class Relu:
    """outputs = max(inputs, 0)."""

    def init(self, draw: np.random.Generator) -> Tensors:
        return {}

    def forward(self, weights: Mapping[str, Array], inputs: Array) -> Array:
        return np.maximum(inputs, 0)

    def backward(self, weights: Mapping[str, Array], inputs: Array, gradient: Array) -> tuple[Tensors, Array]:
        return {}, np.where(inputs > 0, gradient, 0)


@dataclass(frozen=True)
class Network:
    """Layers, one after another."""

    layers: Sequence[Layer]

    def init(self, seed: int) -> Tensors:
        """The weights to start from; equal seeds give equal weights."""
        draw = np.random.default_rng(seed)
        return {
            f"{place}.{name}": array
            for place, layer in enumerate(self.layers)
            for name, array in layer.init(draw).items()
        }

    def forward(self, weights: Mapping[str, Array], inputs: Array) -> Array:
        """The outputs (n, width of the last layer) for inputs (n, width of the first)."""
        return self.trace(weights, inputs)[-1]

    def trace(self, weights: Mapping[str, Array], inputs: Array) -> list[Array]:
        """The inputs of each layer, and the outputs of the last."""
        traced = [inputs]
        for place, layer in enumerate(self.layers):
            traced.append(layer.forward(_of(weights, place), traced[-1]))
        return traced

    def backward(self, weights: Mapping[str, Array], trace: Sequence[Array], gradient: Array) -> tuple[Tensors, Array]:
        """From the loss' gradient by the outputs: those by the weights and by the inputs.

        Args:
            trace: what `trace` has given for the same weights.
        """
        gradients: Tensors = {}
        for place in reversed(range(len(self.layers))):
            own, gradient = self.layers[place].backward(_of(weights, place), trace[place], gradient)
            gradients.update({f"{place}.{name}": array for name, array in own.items()})
        return {name: gradients[name] for name in weights}, gradient


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """The mean of -log softmax(logits)[label], and its gradient by the logits.

    Args:
        logits: (n, classes). labels: integers (n,).
    """
    rows = np.arange(len(labels))
    logs = log_softmax(logits)
    gradient = np.exp(logs)
    gradient[rows, labels] -= 1
    return float(-logs[rows, labels].mean()), gradient / len(labels)


def log_softmax(logits: Array) -> Array:
    """The logarithm of softmax along the last axis, without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def gradient_of_cross_entropy(
    network: Network, weights: Mapping[str, Array], inputs: Array, labels: Array
) -> tuple[float, Tensors]:
    """The mean cross-entropy of a network that classifies, and its gradient by the weights."""
    trace = network.trace(weights, inputs)
    loss, gradient = cross_entropy(trace[-1], labels)
    return loss, network.backward(weights, trace, gradient)[0]


def accuracy(logits: Array, labels: Array) -> float:
    """The share of rows whose largest logit is that of the label, 0 to 1."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def _of(weights: Mapping[str, Array], place: int) -> dict[str, Any]:
    start = f"{place}."
    return {name.removeprefix(start): array for name, array in weights.items() if name.startswith(start)}
