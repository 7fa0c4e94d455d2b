"""Decentralized parallel SGD: every worker has a model and mixes it with its neighbours' in each round (gossip).

Lian et al., Can decentralized algorithms outperform centralized algorithms?, 2017, algorithm 1.
"""

from typing import Any

import numpy as np

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers.algorithms.decentralized import DecentralizedWorker, Gradient, Rate
from fedn.workers.algorithms.tensors import weighted_sum
from fedn.workers.topology import BaseTopologyManager

MODEL = "model"
_TOLERANCE = 1e-5


class DsgdWorker(DecentralizedWorker):
    """In round t: x_i ← Σ_j W[j, i]·x_j - γ·∇F_i(x_i), the gradient computed while the models are on their way.

    W must be doubly stochastic, or the mean of the models drifts: `step` raises InvalidInput (`not_doubly_stochastic`).

    Args:
        model: to start from, the same for all workers.
        topology, gradient, rounds, learning_rate, options: see DecentralizedWorker.
    """

    COLLECTED = (MODEL,)

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
        self.model = model

    @property
    def current_model(self) -> Tensors:
        return self.model

    def step(self, round_index: int, topology: BaseTopologyManager) -> None:
        weights = np.asarray(topology.get_in_neighbor_weights(self.rank), dtype=np.float64)
        if abs(weights.sum() - 1) > _TOLERANCE:
            raise InvalidInput(
                "not_doubly_stochastic",
                f"The weights of what worker {self.rank} receives add up to {weights.sum():.4f}, not to 1",
                fix="Use push-sum, or a topology whose is_doubly_stochastic() is true.",
                where={"round": round_index},
            )
        self.tell(topology.get_out_neighbor_idx_list(self.rank), MODEL, round_index, model=self.model)
        gradient = self.gradient(self.model, round_index)
        heard = self.wait_for(topology.get_in_neighbor_idx_list(self.rank), round_index, self.timeout_s)
        self.model = weighted_sum(
            [
                (float(weights[self.rank]), self.model),
                *((float(weights[sender]), message.get("model")) for sender, message in heard.items()),
                (-self.rate(round_index), gradient),
            ]
        )
