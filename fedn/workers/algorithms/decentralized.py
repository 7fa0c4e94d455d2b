"""What decentralized algorithms have in common: no server; a model each, a topology, and a gradient of one's own."""

import abc
from collections.abc import Callable
from typing import Any

from fedn.models.wire import Tensors
from fedn.workers.algorithms.rounds import RoundWorker
from fedn.workers.topology import BaseTopologyManager

Gradient = Callable[[Tensors, int], Tensors]
"""Of a model and the round: a stochastic gradient of one's own loss, with the model's names and shapes."""
Rate = float | Callable[[int], float]
"""Learning rate: a number, or a function of the round."""
OnRound = Callable[[int, Tensors], None]
"""Told of each round, from 0, and of this worker's model after it."""


class DecentralizedWorker(RoundWorker):
    """`run` returns this worker's last model.

    Args:
        topology: who sends to whom. Workers of one process may share it, once generate_topology was called.
        gradient: see Gradient.
        rounds: how many.
        learning_rate: see Rate.
        on_round: see OnRound.
        options: of RoundWorker.
    """

    def __init__(
        self,
        topology: BaseTopologyManager,
        gradient: Gradient,
        rounds: int,
        learning_rate: Rate,
        *,
        on_round: OnRound | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.topology, self.gradient, self.rounds = topology, gradient, rounds
        self.learning_rate, self.on_round = learning_rate, on_round

    @property
    @abc.abstractmethod
    def current_model(self) -> Tensors:
        """This worker's model now."""

    @abc.abstractmethod
    def step(self, round_index: int, topology: BaseTopologyManager) -> None:
        """One round over the topology of that round.

        Raises:
            PeerUnavailable, RoundIncomplete: a neighbour is lost or late.
        """

    def work(self) -> Tensors:
        for round_index in range(self.rounds):
            self.step(round_index, self.topology.at(round_index))
            if self.on_round is not None:
                self.on_round(round_index, self.current_model)
        return self.current_model

    def rate(self, round_index: int) -> float:
        """The learning rate of a round."""
        return self.learning_rate(round_index) if callable(self.learning_rate) else self.learning_rate
