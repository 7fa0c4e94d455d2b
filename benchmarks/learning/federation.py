"""Federated averaging in one process, with what fedn does to models and updates between its tiers.

Models are encoded, decoded, checked and added up by the code that combiners and clients run; only the processes and
the network between them are left out.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.learning.data import DataSet, spread
from benchmarks.learning.network import Weights, accuracy, make, train
from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.combine import combine
from fedn.client.coding import CodingRequest, TaskCoding
from fedn.client.feedback import FeedbackFolder
from fedn.combiner.coding import encode_model, read_update
from fedn.combiner.objects import cut, evenly
from fedn.models.digest import digest
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec, view
from fedn.network.generated import common_pb2 as wire
from fedn.plan.chains import make_chain
from fedn.protocol.tasks import CodecChain

_RESULT_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Chains:
    updates: CodecChain
    models: CodecChain


@dataclass
class Outcome:
    """What came of a training so far. Bytes and milliseconds are sums over all rounds and clients."""

    clients: int
    accuracies: list[float] = field(default_factory=list)
    """Of the global model after each round, on the test data."""
    sent_bytes: int = 0
    """By clients."""
    received_bytes: int = 0
    client_ms: float = 0.0
    """Decoding models and encoding updates."""
    combiner_ms: float = 0.0
    """Encoding models; checking, decoding and adding updates."""

    @contextmanager
    def at_client(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.client_ms += (time.perf_counter() - began) * 1e3

    @contextmanager
    def at_combiner(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.combiner_ms += (time.perf_counter() - began) * 1e3


class Federation:
    """One training, round by round. Equal arguments give equal results.

    Args:
        folder: where clients keep what their updates left out; empty.
    """

    def __init__(
        self, data: DataSet, chains: Chains, *, clients: int, learning_rate: float, folder: Path, seed: int = 0
    ) -> None:
        self.outcome = Outcome(clients)
        self._data = data
        self._chains = chains
        self._parts = spread(data.train, clients, seed)
        self._learning_rate = learning_rate
        self._folder = folder
        self._seed = seed
        self._model = bytes(encode(make(data, seed)))

    def round(self) -> None:
        """Every client trains one epoch from the global model; their mean, by examples, is the next one."""
        outcome, model = self.outcome, self._model
        spec, model_id = read_spec(model), digest(model)
        with outcome.at_combiner():
            sent = self._encoded_model()
            total = Accumulator(spec, "float64", model)
        for number, part in enumerate(self._parts):
            data, form, coded = self._train(number, model_id, sent)
            outcome.received_bytes += len(sent)
            outcome.sent_bytes += len(data)
            arrived = Pieces.of(data)
            with outcome.at_combiner():
                if coded:
                    encoding = make_chain(self._chains.updates).of(spec, model_id)
                    total.add_encoded(read_update(encoding, arrived), len(part), form=form)
                else:
                    total.add(arrived, read_spec(data), len(part), form=form)
        mean = b"".join(total.result(_RESULT_PIECE_BYTES))
        self._model = bytes(combine([(mean, total.weight)], spec))
        outcome.accuracies.append(accuracy(decode(self._model), self._data.test))

    def _encoded_model(self) -> bytes:
        """The global model as it goes out."""
        if not self._chains.models:
            return self._model
        stored = cut(wire.OBJECT_KIND_MODEL, evenly(Pieces.of(self._model)), "blake3")
        return encode_model(stored, self._chains.models).bytes_in_pieces().copy()

    def _train(self, number: int, model_id: str, sent: bytes) -> tuple[bytes, str, bool]:
        """(update, its form, whether it is encoded) of a client."""
        index = len(self.outcome.accuracies)
        kept = FeedbackFolder(self._folder / f"client-{number}")
        request = CodingRequest(
            session="benchmark",
            round=index,
            task_id=f"{index}",
            model_id=model_id,
            model_chain=self._chains.models,
            update_chain=self._chains.updates,
            feedback_folder=self._folder / f"client-{number}",
        )
        coding = TaskCoding(request, sent)
        with self.outcome.at_client():
            model = coding.model()
        assert model is not None  # every task has one
        spec = read_spec(model)
        weights: Weights = {tensor.name: view(model, tensor) for tensor in spec.tensors}
        train(weights, self._parts[number], self._learning_rate, seed=(self._seed, index, number))
        with self.outcome.at_client():
            encoded = coding.encode(weights, spec, "model")
            data = bytes(encode(encoded.data) if isinstance(encoded.data, dict) else encoded.data)
            kept.note_outcome(request.task_id, counted=True)
        return data, encoded.form, encoded.coded
