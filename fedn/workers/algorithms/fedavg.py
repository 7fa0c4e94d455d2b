"""FedAvg between workers (McMahan et al., Communication-efficient learning of deep networks, 2017, algorithm 1).

Worker 0 sends the model to some of the others, they train it, and it takes their mean, weighted by examples.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput
from fedn.workers.algorithms.rounds import RoundWorker, new_message, round_of
from fedn.workers.algorithms.tensors import weighted_sum
from fedn.workers.backends import Backend, Departure
from fedn.workers.errors import PeerUnavailable
from fedn.workers.manager import DEFAULT_TIMEOUT_S, WorkerManager
from fedn.workers.message import Message

SERVER = 0
GLOBAL_MODEL = "global_model"
LOCAL_MODEL = "local_model"

Train = Callable[[Tensors, int], tuple[Tensors, int]]
"""Of a model and the round: the model trained on one's own examples, and their number."""
OnRound = Callable[[int, Tensors], None]
"""Told of each round and the model that came out of it."""


class Averaging:
    """What a server does in a round, for any worker that has clients; it must collect LOCAL_MODEL by rounds.

    Args:
        worker: who asks.
        clients: ranks of those who train.
        clients_per_round: so many of them, drawn anew in each round; None: all.
        quorum: so many are enough when the time is over or the others are lost; None: all that are asked.
        seed: of the draws.
        timeout_s: how long a round may take, in seconds.
    """

    def __init__(
        self,
        worker: WorkerManager,
        clients: Sequence[int],
        *,
        clients_per_round: int | None = None,
        quorum: int | None = None,
        seed: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self.worker, self.clients = worker, list(clients)
        self.number = len(self.clients) if clients_per_round is None else clients_per_round
        self.quorum, self.seed, self.timeout_s = quorum, seed, timeout_s
        self._tolerated = () if quorum is None else (PeerUnavailable,)
        if not 1 <= self.number <= len(self.clients):
            raise InvalidInput(
                "bad_cohort",
                f"{self.number} of {len(self.clients)} clients cannot be asked",
                fix="Ask 1 to all of them.",
            )
        if quorum is not None and not 1 <= quorum <= self.number:
            raise InvalidInput("bad_quorum", f"A quorum of {quorum} cannot be had from {self.number} clients")

    def cohort(self, round_index: int) -> list[int]:
        """Who is asked in a round: follows from seed and round alone."""
        if self.number == len(self.clients):
            return self.clients
        draw = np.random.default_rng([self.seed, round_index])
        return sorted(int(client) for client in draw.choice(self.clients, self.number, replace=False))

    def round(self, model: Tensors, round_index: int) -> tuple[Tensors, int]:
        """Σ nₖ·wₖ / Σ nₖ over the clients that answered, and Σ nₖ.

        Raises:
            PeerUnavailable, RoundIncomplete: clients are lost or late, and there is no quorum.
        """
        asked = self.cohort(round_index)
        for client in asked:
            params = {Message.MSG_ARG_KEY_MODEL_PARAMS: model}
            message = new_message(self.worker, client, GLOBAL_MODEL, round_index, params)
            with contextlib.suppress(*self._tolerated):
                self.worker.send_message(message)
        answers = self.worker.wait_for(asked, round_index, self.timeout_s, self.quorum, msg_type=LOCAL_MODEL).values()
        total = sum(answer.get("num_examples") for answer in answers)
        mean = weighted_sum(
            (answer.get("num_examples") / total, answer.get(Message.MSG_ARG_KEY_MODEL_PARAMS)) for answer in answers
        )
        return mean, total


class FedAvgServer(RoundWorker):
    """Worker 0. `run` returns the last global model.

    Args:
        model: to start from.
        rounds: how many.
        clients: ranks of those who train; None: all others.
        on_round: see OnRound.
        options: of Averaging.
    """

    COLLECTED = (LOCAL_MODEL,)

    def __init__(
        self,
        model: Tensors,
        rounds: int,
        comm: Backend | None = None,
        *,
        clients: Sequence[int] | None = None,
        on_round: OnRound | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Any,
    ) -> None:
        super().__init__(comm, timeout_s=timeout_s)
        self.model, self.rounds, self.on_round = model, rounds, on_round
        clients = range(1, self.size) if clients is None else clients
        self.averaging = Averaging(self, clients, timeout_s=timeout_s, **options)

    def work(self) -> Tensors:
        for round_index in range(self.rounds):
            self.model, _ = self.averaging.round(self.model, round_index)
            if self.on_round is not None:
                self.on_round(round_index, self.model)
        return self.model


class FedAvgClient(WorkerManager):
    """Trains each model that its server sends, until the server has finished. Other clients may come and go.

    Args:
        train: what to do with a model.
        server: rank of the worker that sends models.
    """

    def __init__(self, train: Train, comm: Backend | None = None, *, server: int = SERVER) -> None:
        super().__init__(comm=comm)
        self.train, self.server = train, server

    def register_message_receive_handlers(self) -> None:
        self.register_message_receive_handler(GLOBAL_MODEL, self.handle_model)

    def handle_model(self, message: Message) -> None:
        round_index = round_of(message)
        model, num_examples = self.train(message.get(Message.MSG_ARG_KEY_MODEL_PARAMS), round_index)
        answer = {Message.MSG_ARG_KEY_MODEL_PARAMS: model, "num_examples": num_examples}
        try:
            self.send_message(new_message(self, self.server, LOCAL_MODEL, round_index, answer))
        except PeerUnavailable as error:
            if error.code != "worker_finished":  # else it had its quorum without us
                raise

    def receive_departure(self, departure: Departure) -> None:
        if departure.rank == self.server:
            super().receive_departure(departure)
            self.finish()
