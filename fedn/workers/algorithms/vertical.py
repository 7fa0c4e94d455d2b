"""Vertical federated learning: parties know different things of the same people; one of them, the guest, the labels.

Each party has a network from its own features to logits; the guest adds all logits up, and gives the gradient of the
loss by this sum back to the hosts (Hu et al., FDML: a collaborative machine learning framework for distributed
features, 2019; with single layers, logistic regression). Features and weights stay where they are; logits and their
gradients are seen by the guest and the hosts. Not here: finding whom the parties have in common.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers.algorithms.networks import Network, cross_entropy
from fedn.workers.algorithms.rounds import RoundWorker, new_message, round_of
from fedn.workers.algorithms.tensors import Array, descend
from fedn.workers.backends import Backend, Departure
from fedn.workers.manager import DEFAULT_TIMEOUT_S, WorkerManager
from fedn.workers.message import Message

GUEST = 0
ALIGN = "align"
"""From the guest: a digest of the rows' names."""
TRAIN = "train"
"""From the guest: rows to train on."""
PREDICT = "predict"
"""From the guest: rows to give logits for, and nothing more."""
LOGITS = "logits"
GRADIENT = "gradient"

Loss = Callable[[Array, Array], tuple[float, Array]]
"""Of logits (n, outputs) and labels (n): the mean loss, and its gradient by the logits."""


class Guest(RoundWorker):
    """Worker 0, which has labels; `run` returns the weights of its own network.

    Args:
        network, weights: from its features to logits.
        features: (rows, width). labels: (rows). names: what the rows are called, in the same order at every party.
        train_rows: positions to train on; batches are drawn from them.
        steps, batch_size, learning_rate, seed: of SGD.
        loss: see Loss.
        options: of RoundWorker.
    """

    COLLECTED = (LOGITS,)

    def __init__(
        self,
        network: Network,
        weights: Tensors,
        features: Array,
        labels: Array,
        names: Sequence[str],
        *,
        train_rows: Array,
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int = 0,
        loss: Loss = cross_entropy,
        on_end: Callable[["Guest"], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.network, self.weights, self.features, self.labels, self.names = network, weights, features, labels, names
        self.train_rows, self.steps, self.batch_size = train_rows, steps, batch_size
        self.learning_rate, self.seed, self.loss, self.on_end = learning_rate, seed, loss, on_end
        self.losses: list[float] = []
        """Of each step."""
        self._exchanges = 0

    @property
    def hosts(self) -> range:
        return range(1, self.size)

    def work(self) -> Tensors:
        self.tell(self.hosts, ALIGN, 0, digest=digest_of(self.names))
        for step in range(self.steps):
            draw = np.random.default_rng([self.seed, step])
            self.step(draw.choice(self.train_rows, self.batch_size, replace=False))
        if self.on_end is not None:
            self.on_end(self)
        return self.weights

    def step(self, rows: Array) -> None:
        """One step of SGD on these rows, at all parties."""
        trace = self.network.trace(self.weights, self.features[rows])
        exchange, others = self._ask(TRAIN, rows)
        loss, gradient = self.loss(trace[-1] + others, self.labels[rows])
        self.tell(self.hosts, GRADIENT, exchange, gradient=gradient)
        by_weights, _ = self.network.backward(self.weights, trace, gradient)
        self.weights = descend(self.weights, by_weights, self.learning_rate)
        self.losses.append(loss)

    def predict(self, rows: Array) -> Array:
        """The logits (n, outputs) of all parties together; to be called while the hosts listen, as in `on_end`."""
        return self.network.forward(self.weights, self.features[rows]) + self._ask(PREDICT, rows)[1]

    def _ask(self, kind: str, rows: Array) -> tuple[int, Array]:
        """The number of this exchange, and the sum of the hosts' logits."""
        exchange, self._exchanges = self._exchanges, self._exchanges + 1
        self.tell(self.hosts, kind, exchange, rows=rows)
        answers = self.wait_for(self.hosts, exchange, self.timeout_s)
        return exchange, sum((message.get("logits") for message in answers.values()), start=np.zeros(1))


class Host(WorkerManager):
    """A party without labels; its `weights` are trained when `run` returns, after the guest has finished.

    Args:
        network, weights: from its features to logits.
        features: (rows, width). names: of the rows, in the same order as the guest's.
        learning_rate: of SGD.
    """

    def __init__(
        self,
        network: Network,
        weights: Tensors,
        features: Array,
        names: Sequence[str],
        learning_rate: float,
        comm: Backend | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        super().__init__(comm=comm)
        self.network, self.weights, self.features, self.names = network, weights, features, names
        self.learning_rate, self.timeout_s = learning_rate, timeout_s
        self.collect_by_round(GRADIENT)

    def register_message_receive_handlers(self) -> None:
        self.register_message_receive_handler(ALIGN, self.handle_align)
        self.register_message_receive_handler(TRAIN, self.handle_train)
        self.register_message_receive_handler(PREDICT, self.handle_predict)

    def handle_align(self, message: Message) -> None:
        """InvalidInput (`not_aligned`) where the guest's rows are others than ours, or in another order."""
        if message.get("digest") != digest_of(self.names):
            raise InvalidInput(
                "not_aligned",
                f"The rows of worker {self.rank} are not those of the guest, in the same order",
                fix="Give all parties the rows that they have in common, sorted by name.",
                where={"worker": self.rank},
            )

    def handle_train(self, message: Message) -> None:
        exchange = round_of(message)
        trace = self.network.trace(self.weights, self.features[message.get("rows")])
        self._answer(exchange, trace[-1])
        answer = self.wait_for([GUEST], exchange, self.timeout_s)[GUEST]
        by_weights, _ = self.network.backward(self.weights, trace, answer.get("gradient"))
        self.weights = descend(self.weights, by_weights, self.learning_rate)

    def handle_predict(self, message: Message) -> None:
        logits = self.network.forward(self.weights, self.features[message.get("rows")])
        self._answer(round_of(message), logits)

    def receive_departure(self, departure: Departure) -> None:
        super().receive_departure(departure)
        if departure.rank == GUEST:
            self.finish()

    def _answer(self, exchange: int, logits: Array) -> None:
        self.send_message(new_message(self, GUEST, LOGITS, exchange, {"logits": logits}))


def digest_of(names: Sequence[str]) -> str:
    """SHA-256 of names in their order, in hex."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def logistic_loss(logits: Array, labels: Array) -> tuple[float, Array]:
    """The mean binary cross-entropy of one logit a row, and its gradient by the logits.

    Args:
        logits: (n, 1). labels: 0 or 1 (n).
    """
    margins = logits[:, 0]
    losses = np.logaddexp(0, margins) - labels * margins
    chances = np.exp(-np.logaddexp(0, -margins))
    return float(losses.mean()), ((chances - labels) / len(labels))[:, None]
