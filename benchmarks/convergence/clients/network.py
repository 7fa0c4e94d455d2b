"""The network of the study: dense layers with ReLU between them. The sites train it, and the study judges it."""

import itertools
from collections.abc import Sequence

from fedn.workers.algorithms.networks import Dense, Layer, Network, Relu


def make_network(widths: Sequence[int]) -> Network:
    """From inputs to classes: `[64, 32, 10]` has one hidden layer of 32."""
    layers: list[Layer] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [Dense(inputs, outputs), Relu()]
    return Network(layers[:-1])
