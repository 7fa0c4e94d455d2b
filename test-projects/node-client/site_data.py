"""The examples of one site as a CSV file, which both clients of this project read.

    python site_data.py --index 0 --count 2 > site-0.csv

Each line is an image: `train` or `held_out`, the digit, and 64 pixels from 0 to 1. The images are the 1,797 handwritten
digits that scikit-learn ships.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fedn.datasets.pieces import Partition

HELD_OUT = 360
"""Images that nobody trains on; each site validates its share of them."""


def write_site(index: int, count: int, file) -> None:
    """Writes the images of one of `count` sites, whose digits are unevenly spread."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    piece = Partition(index, count)
    sets = {
        "train": order[HELD_OUT:][piece.training(labels[order[HELD_OUT:]])],
        "held_out": order[:HELD_OUT][piece.held_out(HELD_OUT)],
    }
    writer = csv.writer(file, lineterminator="\n")
    for name, positions in sets.items():
        for position in positions:
            writer.writerow([name, labels[position], *(f"{pixel:g}" for pixel in images[position] / 16)])


def read_site(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (n, 64) and labels (n,) of a set."""
    with path.open(newline="") as file:
        rows = [row[1:] for row in csv.reader(file) if row[0] == name]
    return np.array([row[1:] for row in rows], np.float32), np.array([row[0] for row in rows], int)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=int, required=True, help="of the site, from 0")
    parser.add_argument("--count", type=int, required=True, help="of sites")
    chosen = parser.parse_args()
    write_site(chosen.index, chosen.count, sys.stdout)
