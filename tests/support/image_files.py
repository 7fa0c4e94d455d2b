"""Small idx files in the form of MNIST, made from what is on the machine: nothing is downloaded."""

from pathlib import Path
from typing import Any

import numpy as np

from fedn.datasets.idx import encode_idx

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def random_set(seed: int = 0, train: int = 60, held_out: int = 20) -> dict[str, Any]:
    """Random images and labels, as arrays by the names of their files."""
    draw = np.random.default_rng(seed)
    shapes = ((train, 28, 28), (train,), (held_out, 28, 28), (held_out,))
    highest = (256, 10, 256, 10)
    return {
        name: draw.integers(0, top, shape, dtype=np.uint8)
        for name, shape, top in zip(NAMES, shapes, highest, strict=True)
    }


def digits_set() -> dict[str, Any]:
    """scikit-learn's 1,797 handwritten digits, three times as large (24x24) in a frame of two pixels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    large = np.kron(images.reshape(-1, 8, 8) * (255 / 16), np.ones((3, 3))).round().astype(np.uint8)
    framed = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    held_out = np.arange(len(labels)) % 5 == 0
    parts = (framed[~held_out], labels[~held_out], framed[held_out], labels[held_out])
    return dict(zip(NAMES, (part.astype(np.uint8) for part in parts), strict=True))


def write_set(folder: Path, arrays: dict[str, Any], *, packed: bool = True) -> Path:
    """Writes the files, gzipped or not; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(encode_idx(array, packed=packed))
    return folder
