"""Stochastic gradient push: decentralized SGD on directed graphs, where the weights of what comes do not add up to 1.

Assran et al., Stochastic gradient push for distributed deep learning, 2019, algorithm 1, after Nedić and Olshevsky,
Stochastic gradient-push for strongly convex functions on time-varying directed graphs, 2016.
"""

from typing import Any

import numpy as np

from fedn.models.wire import Tensors
from fedn.workers.algorithms.decentralized import DecentralizedWorker, Gradient, Rate
from fedn.workers.algorithms.tensors import descend, weighted_sum
from fedn.workers.topology import BaseTopologyManager

SHARE = "share"


class PushSumWorker(DecentralizedWorker):
    """Each worker has a numerator x and a weight w, 1 at first; its model is z = x / w.

    In round t: x_i ← x_i - γ·∇F_i(z_i); then it gives away shares of x_i and w_i by its row of W, which sums to 1,
    keeps its own, and adds what it gets. So Σ x and Σ w stay what they are, and every z approaches Σ x / Σ w. A lost
    neighbour takes its share with it: the round fails.

    Args:
        model: to start from, the same for all workers.
        topology: over time, everybody must reach everybody along the links' directions; nothing else is asked of it.
        gradient, rounds, learning_rate, options: see DecentralizedWorker.
    """

    COLLECTED = (SHARE,)

    def __init__(
        self,
        model: Tensors,
        topology: BaseTopologyManager,
        gradient: Gradient,
        rounds: int,
        learning_rate: Rate,
        **options: Any,
    ) -> None:
        super().__init__(topology, gradient, rounds, learning_rate, **options)
        self.numerator, self.weight = model, 1.0

    @property
    def current_model(self) -> Tensors:
        """z: the numerator without the bias of the graph."""
        return weighted_sum([(1 / self.weight, self.numerator)])

    def step(self, round_index: int, topology: BaseTopologyManager) -> None:
        shares = np.asarray(topology.get_out_neighbor_weights(self.rank), dtype=np.float64)
        shares = shares / shares.sum()  # in float32 a row sums to 1 but for the last bit: the sum would wear off
        gradient = self.gradient(self.current_model, round_index)
        stepped = descend(self.numerator, gradient, self.rate(round_index))
        for receiver in topology.get_out_neighbor_idx_list(self.rank):
            share = float(shares[receiver])
            given = weighted_sum([(share, stepped)])
            self.tell([receiver], SHARE, round_index, numerator=given, weight=share * self.weight)
        heard = self.wait_for(topology.get_in_neighbor_idx_list(self.rank), round_index, self.timeout_s).values()
        kept = float(shares[self.rank])
        self.numerator = weighted_sum([(kept, stepped), *((1.0, message.get("numerator")) for message in heard)])
        self.weight = kept * self.weight + sum(message.get("weight") for message in heard)
