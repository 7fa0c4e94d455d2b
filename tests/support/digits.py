"""Real handwritten digits for tests of algorithms: dealt out to sites, and small networks that read them."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from fedn.datasets.pieces import Partition
from fedn.models.wire import Tensors
from fedn.workers.algorithms.networks import Dense, Network, Relu, accuracy, gradient_of_cross_entropy
from fedn.workers.algorithms.tensors import Array

SOFTMAX_REGRESSION = Network([Dense(64, 10)])
PERCEPTRON = Network([Dense(64, 32), Relu(), Dense(32, 10)])


@dataclass(frozen=True)
class Examples:
    """Images float64 (n, 64) in 0..1, labels (n,) in 0..9."""

    images: Array
    labels: Array

    def batch(self, seed: tuple[int, ...], size: int) -> "Examples":
        chosen = np.random.default_rng(seed).choice(len(self.labels), size, replace=False)
        return Examples(self.images[chosen], self.labels[chosen])

    def gradient(self, network: Network, weights: Tensors) -> Tensors:
        return gradient_of_cross_entropy(network, weights, self.images, self.labels)[1]

    def accuracy(self, network: Network, weights: Tensors) -> float:
        return accuracy(network.forward(weights, self.images), self.labels)


@cache
def digits() -> tuple[Examples, Examples]:
    """To train on (1,437), and held out (360)."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order] / 16, labels[order]
    return Examples(images[:1437], labels[:1437]), Examples(images[1437:], labels[1437:])


def digits_of(site: int, count: int, alpha: float = 0.5) -> Examples:
    """The uneven share of one of `count` sites."""
    train, _ = digits()
    chosen = Partition(site, count, alpha=alpha).training(train.labels)
    return Examples(train.images[chosen], train.labels[chosen])


def start(network: Network, seed: int = 0) -> Tensors:
    """Weights in float64, so that results can be compared closely."""
    return {name: array.astype(np.float64) for name, array in network.init(seed).items()}
