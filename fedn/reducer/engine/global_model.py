"""Combiner models become the next global model: checked, averaged, encoded. Pure, but for the time it takes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedn.aggregation.combine import combine
from fedn.models.digest import digest
from fedn.models.wire import ModelSpec, header_size, read_spec
from fedn.network.frames import HEAD_BYTES
from fedn.network.generated import common_pb2 as wire
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Conflict
from fedn.protocol.rounds import LedgerEntry, LedgerState
from fedn.protocol.tasks import TaskKind, UpdateMetadata, weighted_mean
from fedn.reducer.engine.objects import SharedObject, share
from fedn.reducer.engine.part import PartResult


@dataclass(frozen=True)
class GlobalModel:
    """A global model as the engine holds it: its pieces for the links, its layout for the next aggregation."""

    shared: SharedObject
    spec: ModelSpec

    @property
    def model_id(self) -> str:
        return self.shared.object_id


@dataclass(frozen=True)
class Aggregated:
    model: GlobalModel
    buffer: bytearray
    aggregation_ms: float


def check_overlap(parts: Sequence[PartResult]) -> None:
    """Conflict (`contributed_twice`) where two combiner models count the same client."""
    seen: dict[str, str] = {}
    for part in parts:
        for contribution in part.model.contributions:
            other = seen.setdefault(contribution.client, part.model.combiner)
            if other != part.model.combiner:
                raise Conflict(
                    "contributed_twice",
                    f"the combiner models of {other} and {part.model.combiner} both count one client",
                    fix="The round is tried again; see the log of both combiners.",
                    where={"client": contribution.client},
                )


def aggregate(parts: Sequence[PartResult], base: ModelSpec, plan: SessionPlan, algorithm: str) -> Aggregated:
    """The global model of a round; runs for as long as it takes, so in a thread of its own."""
    started = time.perf_counter()
    check_overlap(parts)
    models = [(part.tensors, part.model.weight) for part in parts if part.tensors is not None]
    buffer = combine(models, base, plan.reducer_mean, plan.sum_dtype)
    model = adopt(buffer, base, algorithm)
    return Aggregated(model, buffer, (time.perf_counter() - started) * 1e3)


def adopt(buffer: bytearray, spec: ModelSpec, algorithm: str) -> GlobalModel:
    """A model that is in memory, named by its digest."""
    return GlobalModel(share(digest(buffer, algorithm), wire.OBJECT_KIND_MODEL, buffer), spec)


def read_shared_spec(shared: SharedObject) -> ModelSpec:
    """The layout of a model that is held in pieces; only those of its header are put together."""
    beginning = bytearray()
    for piece in shared.pieces:
        beginning += memoryview(piece)[HEAD_BYTES:]
        needed = header_size(beginning)
        if needed is not None and len(beginning) >= needed:
            break
    return read_spec(beginning, shared.size_bytes)


def round_metrics(ledger: Sequence[LedgerEntry], kinds: Mapping[str, TaskKind], of: TaskKind) -> dict[str, float]:
    """Mean of each metric over the answers to tasks of one kind, by examples; non-finite values are left out.

    Of a training round: over the updates. What clients that only validate say is of another model than the updates.
    """
    return weighted_mean(
        [
            (_examples(entry.metadata, of), entry.metadata.metrics)
            for entry in ledger
            if entry.state is LedgerState.UPDATED and entry.metadata is not None and kinds.get(entry.client) is of
        ]
    )


def _examples(metadata: UpdateMetadata, kind: TaskKind) -> int:
    """What an answer is weighted by; a client says of a validation how much it was done on in either field."""
    if kind is TaskKind.VALIDATE:
        return metadata.num_validation_examples or metadata.num_examples
    return metadata.num_examples


def incoming_validations(
    ledger: Sequence[LedgerEntry], kinds: Mapping[str, TaskKind]
) -> list[tuple[str, int, dict[str, float]]]:
    """(client, examples, metrics) of each client that validated the model which the round started from."""
    found = []
    for entry in ledger:
        metadata = entry.metadata
        if entry.state is not LedgerState.UPDATED or metadata is None:
            continue
        if kinds.get(entry.client) is TaskKind.VALIDATE:
            found.append((entry.client, _examples(metadata, TaskKind.VALIDATE), metadata.metrics))
        elif metadata.validation:
            found.append((entry.client, metadata.num_validation_examples, metadata.validation))
    return found
