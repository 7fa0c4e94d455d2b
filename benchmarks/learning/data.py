"""Data sets that are on the machine, and how their examples are spread over clients."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from fedn.datasets import images

Array = np.ndarray[Any, Any]

_TEST_SHARE = 4
_FASHION_EXAMPLES = 20_000
"""Of the 60,000 for training: enough to see differences, and three times as fast."""


@dataclass(frozen=True)
class Examples:
    """Inputs (n, d) float32 and their classes (n,)."""

    inputs: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: Array) -> "Examples":
        return Examples(self.inputs[chosen], self.labels[chosen])


@dataclass(frozen=True)
class DataSet:
    name: str
    train: Examples
    test: Examples
    hidden: tuple[int, ...]
    """Widths of the hidden layers of a network for it."""

    @property
    def classes(self) -> int:
        return int(self.train.labels.max()) + 1


def load(name: str) -> DataSet:
    """`digits` (of scikit-learn) or `fashion`.

    Raises:
        FednError: Fashion-MNIST is not on this machine, and could not be downloaded.
    """
    return _digits() if name == "digits" else _fashion()


def spread(examples: Examples, clients: int, seed: int, evenness: float = 0.5) -> list[Examples]:
    """The examples of each client: of each class, shares from a Dirichlet distribution (Hsu et al. 2019).

    The smaller `evenness` (> 0), the more a client has of a few classes. Each has one example at least.
    """
    rng = np.random.default_rng(seed)
    found: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(examples.labels):
        places = rng.permutation(np.flatnonzero(examples.labels == label))
        ends = np.cumsum(rng.dirichlet([evenness] * clients) * len(places)).astype(int)[:-1]
        for chosen, part in zip(found, np.split(places, ends), strict=True):
            chosen.extend(part.tolist())
    largest = max(found, key=len)
    for chosen in found:
        if not chosen:
            chosen.append(largest.pop())
    return [examples.part(np.array(chosen)) for chosen in found]


def _digits() -> DataSet:
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    inputs, labels = (loaded.data[order] / 16).astype(np.float32), loaded.target[order]
    held = len(labels) // _TEST_SHARE
    return DataSet(
        "digits", Examples(inputs[held:], labels[held:]), Examples(inputs[:held], labels[:held]), hidden=(64,)
    )


def _fashion() -> DataSet:
    loaded = images.load_images("fashion-mnist")
    train = loaded.train.part(np.arange(_FASHION_EXAMPLES))
    return DataSet("fashion", _flat(train), _flat(loaded.held_out), hidden=(256, 128))


def _flat(examples: images.Examples) -> Examples:
    inputs = examples.images.reshape(len(examples), -1)
    return Examples((inputs / 255).astype(np.float32), examples.labels.astype(np.int64))
