"""Handwritten digits (1,797 real 8x8 images that scikit-learn ships), split over the sites of a federation.

A fifth of the images, in equal shares of each digit, is held out: no site trains on it, and each validates its own
share of it. The rest is dealt out unevenly, as hospitals or banks would have it: some sites hardly ever see a seven.
Everything follows from the seed, so that all sites cut the same pieces without talking: see `fedn.datasets.pieces`.
Needs scikit-learn, which fedn does not bring.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from fedn.datasets.pieces import Piece

Array = np.ndarray[Any, Any]

HELD_OUT = 0.2


@dataclass(frozen=True, eq=False)
class SiteData:
    """Images are float32 (n, 64) in 0..1, labels int64 (n,) in 0..9."""

    train_images: Array
    train_labels: Array
    held_out_images: Array
    held_out_labels: Array


def load_site(piece: Piece) -> SiteData:
    """The images of one site."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int64)
    train, held_out = split_held_out(labels, piece.seed)
    mine = train[piece.training(labels[train])]
    share = held_out[piece.held_out(len(held_out))]
    return SiteData(images[mine], labels[mine], images[share], labels[share])


def split_held_out(labels: Array, seed: int) -> tuple[Array, Array]:
    """Positions to train on, and positions held out: the same fraction of each digit."""
    draw = np.random.default_rng([seed, 1])
    train, held_out = [], []
    for digit in np.unique(labels):
        positions = draw.permutation(np.flatnonzero(labels == digit))
        cut = round(len(positions) * HELD_OUT)
        held_out.append(positions[:cut])
        train.append(positions[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(held_out))
