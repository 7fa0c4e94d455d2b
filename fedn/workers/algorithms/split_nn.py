"""Split learning: clients hold the first layers of a network, the server holds the last ones, and nobody holds all.

Gupta and Raskar, Distributed learning of deep neural network over multiple agents, 2018, algorithm 2: the clients take
turns. In its turn a client sends the activations of each batch, with the labels, and gets the gradient back; then it
hands its layers to the next client. So all of them train one network, as if their data lay in one place.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fedn.models.wire import Tensors
from fedn.workers.algorithms.networks import Network, accuracy, cross_entropy
from fedn.workers.algorithms.rounds import RoundWorker
from fedn.workers.algorithms.tensors import Array, descend

SERVER = 0
ACTIVATIONS = "activations"
GRADIENT = "gradient"
TURN = "turn"
"""From client to client: the first layers, and the number of the next batch."""
HELD_OUT = "held_out"
METRICS = "metrics"

Batches = Callable[[int], Sequence[tuple[Array, Array]]]
"""Of the epoch: one's own inputs and labels, batch by batch; at least one batch."""


class SplitServer(RoundWorker):
    """Worker 0, which holds the last layers; `run` returns their weights.

    Args:
        network, weights: the last layers.
        epochs: how often each client has its turn.
        learning_rate: of SGD.
        options: of RoundWorker.
    """

    COLLECTED = (ACTIVATIONS, HELD_OUT)

    def __init__(self, network: Network, weights: Tensors, epochs: int, learning_rate: float, **options: Any) -> None:
        super().__init__(**options)
        self.network, self.weights, self.epochs, self.learning_rate = network, weights, epochs, learning_rate
        self.losses: list[float] = []
        """Of each batch."""

    def work(self) -> Tensors:
        clients = range(1, self.size)
        for _ in range(self.epochs):
            for client in clients:
                self._serve_turn(client)
        for client, message in self.wait_for(clients, 0, self.timeout_s, msg_type=HELD_OUT).items():
            logits = self.network.forward(self.weights, message.get("activations"))
            self.tell([client], METRICS, 0, accuracy=accuracy(logits, message.get("labels")))
        return self.weights

    def _serve_turn(self, client: int) -> None:
        batches_left = 1
        while batches_left:
            batch = len(self.losses)
            message = self.wait_for([client], batch, self.timeout_s, msg_type=ACTIVATIONS)[client]
            trace = self.network.trace(self.weights, message.get("activations"))
            loss, gradient = cross_entropy(trace[-1], message.get("labels"))
            by_weights, by_activations = self.network.backward(self.weights, trace, gradient)
            self.weights = descend(self.weights, by_weights, self.learning_rate)
            self.tell([client], GRADIENT, batch, gradient=by_activations)
            self.losses.append(loss)
            batches_left = message.get("batches_left")


class SplitClient(RoundWorker):
    """The other workers, which hold the first layers in turn; `run` returns the last weights of these layers.

    Args:
        network, weights: the first layers; all clients start from the same weights.
        batches: see Batches.
        held_out: inputs and labels to measure the whole network with, at the end.
        epochs, learning_rate: as the server's.
        options: of RoundWorker.
    """

    COLLECTED = (GRADIENT, TURN, METRICS)

    def __init__(
        self,
        network: Network,
        weights: Tensors,
        batches: Batches,
        held_out: tuple[Array, Array],
        epochs: int,
        learning_rate: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.network, self.weights, self.batches, self.held_out = network, weights, batches, held_out
        self.epochs, self.learning_rate = epochs, learning_rate
        self.accuracy = 0.0
        """Of the whole network on `held_out`; there after `run`."""

    def work(self) -> Tensors:
        clients, last = self.size - 1, self.size - 1
        batch = 0
        for epoch in range(self.epochs):
            turn = epoch * clients + self.rank - 1
            if turn > 0:
                batch = self._take_over(turn, sender=self.rank - 1 or last)
            batch = self._train(epoch, batch)
            if turn < self.epochs * clients - 1:
                self._hand_over([self.rank % clients + 1], turn + 1, batch)
        if self.rank == last:
            self._hand_over(range(1, last), self.epochs * clients, batch)
        else:
            self._take_over(self.epochs * clients, sender=last)
        return self._measured()

    def _take_over(self, turn: int, sender: int) -> int:
        message = self.wait_for([sender], turn, self.timeout_s, msg_type=TURN)[sender]
        self.weights = message.get("weights")
        batch: int = message.get("batch")
        return batch

    def _hand_over(self, receivers: Sequence[int], turn: int, batch: int) -> None:
        self.tell(receivers, TURN, turn, weights=self.weights, batch=batch)

    def _train(self, epoch: int, batch: int) -> int:
        """One turn; the number of the batch that comes after it."""
        batches = self.batches(epoch)
        for place, (inputs, labels) in enumerate(batches):
            trace = self.network.trace(self.weights, inputs)
            left = len(batches) - 1 - place
            self.tell([SERVER], ACTIVATIONS, batch, activations=trace[-1], labels=labels, batches_left=left)
            gradient = self.wait_for([SERVER], batch, self.timeout_s, msg_type=GRADIENT)[SERVER].get("gradient")
            by_weights, _ = self.network.backward(self.weights, trace, gradient)
            self.weights = descend(self.weights, by_weights, self.learning_rate)
            batch += 1
        return batch

    def _measured(self) -> Tensors:
        inputs, labels = self.held_out
        activations = self.network.forward(self.weights, inputs)
        self.tell([SERVER], HELD_OUT, 0, activations=activations, labels=labels)
        self.accuracy = self.wait_for([SERVER], 0, self.timeout_s, msg_type=METRICS)[SERVER].get("accuracy")
        return self.weights
