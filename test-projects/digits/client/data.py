"""Handwritten digits (1,797 real 8x8 images that scikit-learn ships), split over the sites of a federation.

A fifth of the images, in equal shares of each digit, is held out: no site trains on it, and each validates its own
share of it. The rest is dealt out unevenly (a Dirichlet draw a digit), as hospitals or banks would have it: some sites
hardly ever see a seven. Everything follows from the seed, so that all sites cut the same pieces without talking.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

HELD_OUT = 0.2
SMALLEST_SITE = 10


@dataclass(frozen=True)
class Partition:
    """Which piece of the data a site has: number `index` (from 0) of `count`."""

    index: int = 0
    count: int = 1
    seed: int = 0
    alpha: float = 0.5
    """Of the Dirichlet draws, > 0: the smaller, the more uneven the pieces."""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"partition.json: index {self.index} is not one of 0..{self.count - 1}")
        if self.alpha <= 0:
            raise ValueError(f"partition.json: alpha must be greater than 0, not {self.alpha}")


@dataclass(frozen=True)
class SiteData:
    """Images are float32 (n, 64) in 0..1, labels int64 (n,) in 0..9."""

    train_images: np.ndarray
    train_labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray


def read_partition(data_path: Path | None) -> Partition:
    """What `partition.json` in the site's data directory says; without one, the site has all of the data."""
    file = None if data_path is None else data_path / "partition.json"
    if file is None or not file.exists():
        return Partition()
    return Partition(**json.loads(file.read_text()))


def load_site(partition: Partition) -> SiteData:
    """The images of one site."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int64)
    train, held_out = split_held_out(labels, partition.seed)
    mine = train[deal_out(labels[train], partition)[partition.index]]
    share = held_out[partition.index :: partition.count]
    return SiteData(images[mine], labels[mine], images[share], labels[share])


def split_held_out(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on, and positions held out: the same fraction of each digit."""
    draw = np.random.default_rng([seed, 1])
    train, held_out = [], []
    for digit in np.unique(labels):
        positions = draw.permutation(np.flatnonzero(labels == digit))
        cut = round(len(positions) * HELD_OUT)
        held_out.append(positions[:cut])
        train.append(positions[cut:])
    return np.sort(np.concatenate(train)), draw.permutation(np.concatenate(held_out))


def deal_out(labels: np.ndarray, partition: Partition) -> list[np.ndarray]:
    """Positions of each site. Draws again until every site has SMALLEST_SITE images, where there are enough."""
    draw = np.random.default_rng([partition.seed, 2])
    smallest = min(SMALLEST_SITE, len(labels) // (2 * partition.count))
    while True:
        sites: list[list[np.ndarray]] = [[] for _ in range(partition.count)]
        for digit in np.unique(labels):
            positions = draw.permutation(np.flatnonzero(labels == digit))
            shares = draw.dirichlet([partition.alpha] * partition.count)
            cuts = np.round(np.cumsum(shares)[:-1] * len(positions)).astype(int)
            for site, piece in zip(sites, np.split(positions, cuts), strict=True):
                site.append(piece)
        pieces = [np.sort(np.concatenate(site)) for site in sites]
        if min(len(piece) for piece in pieces) >= smallest:
            return pieces
