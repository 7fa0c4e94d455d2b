"""Group knowledge transfer: small networks at the edge, a large one at the server, which teach each other.

He et al., Group knowledge transfer: federated learning of large CNNs at the edge, 2020, algorithm 1. A client trains a
feature extractor and a small classifier, and sends the features, its logits and the labels of its examples; the server
trains a large network on everybody's features, and sends the logits of that one back. Both learn from the labels and
from what the other one thinks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedn.models.wire import Tensors
from fedn.workers.algorithms.networks import Network, accuracy, cross_entropy, log_softmax
from fedn.workers.algorithms.rounds import RoundWorker
from fedn.workers.algorithms.tensors import Array, descend
from fedn.workers.message import Message

SERVER = 0
KNOWLEDGE = "knowledge"
"""From a client: features, logits and labels of its examples, and features and labels of its held-out ones."""
ADVICE = "advice"
"""From the server: its logits of the client's examples."""


@dataclass(frozen=True)
class Schooling:
    """How both sides train in a round."""

    epochs: int
    batch_size: int
    learning_rate: float
    temperature: float = 3.0
    """Softens both sides' chances before they are compared."""
    weight: float = 1.0
    """Of what the other side thinks, beside the labels."""


def distillation(student: Array, teacher: Array, temperature: float) -> tuple[float, Array]:
    """T² · mean KL(softmax(teacher / T) ‖ softmax(student / T)), and its gradient by the student's logits.

    Hinton et al., Distilling the knowledge in a neural network, 2015: T² keeps its size beside that of the labels.

    Args:
        student, teacher: logits (n, classes).
    """
    ours, theirs = log_softmax(student / temperature), log_softmax(teacher / temperature)
    chances = np.exp(theirs)
    loss = temperature**2 * float((chances * (theirs - ours)).sum(axis=1).mean())
    return loss, temperature * (np.exp(ours) - chances) / len(student)


def school(
    network: Network,
    weights: Tensors,
    inputs: Array,
    labels: Array,
    teacher: Array | None,
    how: Schooling,
    seed: Sequence[int],
) -> Tensors:
    """The weights after `how.epochs` epochs of SGD on labels and, if there is one, a teacher's logits (n, classes)."""
    draw = np.random.default_rng(seed)
    for _ in range(how.epochs):
        order = draw.permutation(len(labels))
        for start in range(0, len(order), how.batch_size):
            rows = order[start : start + how.batch_size]
            trace = network.trace(weights, inputs[rows])
            _, gradient = cross_entropy(trace[-1], labels[rows])
            if teacher is not None:
                gradient = gradient + how.weight * distillation(trace[-1], teacher[rows], how.temperature)[1]
            weights = descend(weights, network.backward(weights, trace, gradient)[0], how.learning_rate)
    return weights


class GktServer(RoundWorker):
    """Worker 0, which has the large network, from features to logits; `run` returns its weights.

    Args:
        network, weights: the large network.
        rounds: how many.
        how: see Schooling.
        seed: of the batches.
        options: of RoundWorker.
    """

    COLLECTED = (KNOWLEDGE,)

    def __init__(
        self, network: Network, weights: Tensors, rounds: int, how: Schooling, *, seed: int = 0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.network, self.weights, self.rounds, self.how, self.seed = network, weights, rounds, how, seed
        self.accuracies: list[float] = []
        """On all held-out examples, through their own clients' extractors, of each round."""

    def work(self) -> Tensors:
        clients = range(1, self.size)
        for round_index in range(self.rounds):
            heard = self.wait_for(clients, round_index, self.timeout_s)
            self._learn(heard, round_index)
            for client, message in heard.items():
                logits = self.network.forward(self.weights, message.get("features"))
                self.tell([client], ADVICE, round_index, logits=logits)
        return self.weights

    def _learn(self, heard: Mapping[int, Message], round_index: int) -> None:
        def of_all(key: str) -> Array:
            return np.concatenate([message.get(key) for message in heard.values()])

        features, labels, logits = of_all("features"), of_all("labels"), of_all("logits")
        seed = [self.seed, round_index]
        self.weights = school(self.network, self.weights, features, labels, logits, self.how, seed)
        held_out = self.network.forward(self.weights, of_all("held_out_features"))
        self.accuracies.append(accuracy(held_out, of_all("held_out_labels")))


class GktClient(RoundWorker):
    """The other workers, which have examples; `run` returns the weights of extractor and classifier.

    Args:
        network: extractor and classifier, one after the other.
        features_at: so many of its layers are the extractor.
        weights: of the network.
        examples: inputs and labels to train on.
        held_out: inputs and labels to measure with.
        rounds, how, seed, options: as for GktServer.
    """

    COLLECTED = (ADVICE,)

    def __init__(
        self,
        network: Network,
        features_at: int,
        weights: Tensors,
        examples: tuple[Array, Array],
        held_out: tuple[Array, Array],
        rounds: int,
        how: Schooling,
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.network, self.features_at, self.weights = network, features_at, weights
        self.examples, self.held_out = examples, held_out
        self.rounds, self.how, self.seed = rounds, how, seed

    def work(self) -> Tensors:
        advice: Array | None = None
        inputs, labels = self.examples
        for round_index in range(self.rounds):
            seed = [self.seed, self.rank, round_index]
            self.weights = school(self.network, self.weights, inputs, labels, advice, self.how, seed)
            trace = self.network.trace(self.weights, inputs)
            self.tell(
                [SERVER],
                KNOWLEDGE,
                round_index,
                features=trace[self.features_at],
                logits=trace[-1],
                labels=labels,
                held_out_features=self.network.trace(self.weights, self.held_out[0])[self.features_at],
                held_out_labels=self.held_out[1],
            )
            advice = self.wait_for([SERVER], round_index, self.timeout_s)[SERVER].get("logits")
        return self.weights
