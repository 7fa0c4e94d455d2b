"""Workers learn to read handwritten digits together, without a server: each mixes its model with its neighbours'.

    fedn worker run train.py -n 6 --topology asymmetric -- --rounds 300

Where what a worker receives adds up to 1 (`symmetric`, `torus`, …), they run DSGD; on directed graphs push-sum.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

from fedn.datasets.pieces import Partition
from fedn.models.wire import Tensors
from fedn.workers import attach
from fedn.workers.algorithms import DsgdWorker, PushSumWorker
from fedn.workers.algorithms.networks import Dense, Network, Relu, accuracy, gradient_of_cross_entropy
from fedn.workers.topology import SymmetricTopologyManager, launched_topology

NETWORK = Network([Dense(64, 64), Relu(), Dense(64, 10)])
BATCH_SIZE = 32
HELD_OUT = 360
"""Images that nobody trains on."""


def main(rounds: int, alpha: float) -> None:
    rank, size = attach().rank, attach().size
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order]
    mine = HELD_OUT + Partition(rank, size, alpha=alpha).training(labels[HELD_OUT:])

    def gradient(weights: Tensors, round_index: int) -> Tensors:
        rows = np.random.default_rng([rank, round_index]).choice(mine, min(BATCH_SIZE, len(mine)), replace=False)
        return gradient_of_cross_entropy(NETWORK, weights, images[rows], labels[rows])[1]

    def correct(weights: Tensors) -> float:
        return accuracy(NETWORK.forward(weights, images[:HELD_OUT]), labels[:HELD_OUT])

    def report(round_index: int, weights: Tensors) -> None:
        if round_index % 100 == 99:
            print(f"round {round_index + 1}: accuracy {correct(weights):.3f}", flush=True)

    topology = launched_topology(size) or SymmetricTopologyManager(size)
    algorithm = DsgdWorker if topology.at(0).is_doubly_stochastic() else PushSumWorker
    worker = algorithm(NETWORK.init(0), topology, gradient, rounds, lambda t: 0.5 / (1 + t / rounds), on_round=report)
    weights = worker.run()
    digits = np.unique(labels[mine])
    print(f"{algorithm.__name__}: {len(mine)} images of {len(digits)} digits, accuracy {correct(weights):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--alpha", type=float, default=0.5, help="how uneven the digits are: 0.1 very, 100 hardly")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    main(chosen.rounds, chosen.alpha)
