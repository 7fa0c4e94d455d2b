"""What a result must say of itself before its first byte is taken."""

from collections.abc import Callable, Iterable, Mapping

from fedn.aggregation.checks import check_metadata
from fedn.aggregation.scaling.base import check_required
from fedn.combiner.coding import check_chain
from fedn.combiner.options import HEADER_SLACK_BYTES
from fedn.models.codecs.chain import Encoding
from fedn.models.wire import ModelSpec
from fedn.network.convert import metadata_from_wire
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.names import check_digest
from fedn.protocol.tasks import CodecChain, RoundName, TaskKind, TaskSpec, UpdateMetadata

Encodings = Callable[[CodecChain], Encoding]


def check_announcement(
    ready: wire.Ready,
    task: TaskSpec,
    name: RoundName,
    base: ModelSpec | None,
    encodings: Encodings,
    max_bytes: int,
    required: Iterable[tuple[str, str]],
    extras: Mapping[str, ModelSpec],
) -> UpdateMetadata:
    """The metadata of a result that may be taken.

    Args:
        base: of the model that a train task works on; None for other kinds.
        encodings: gives what a chain makes of updates of that model.
        max_bytes: largest result allowed.
        required: (field, who needs it) of the metadata that an update must have.
        extras: what follows the tensors of an update, by name and in this order.

    Raises:
        UpdateRefused, InvalidInput: it answers something else, has no weight, or cannot fit.
    """
    metadata = metadata_from_wire(ready.metadata)
    where = {"client": task.client, "task": task.task_id, "round": name}
    if metadata.round != name or metadata.client != task.client:
        raise UpdateRefused(
            "update_other_round",
            f"the result is for round {metadata.round} and client {metadata.client}",
            fix="Answer with the round and the client of the task.",
            where=where,
        )
    if metadata.base_model_id != task.model_id:
        raise UpdateRefused(
            "update_other_base",
            f"the result was made from the model {metadata.base_model_id or '(none)'}",
            fix=f"Work on the model of the task, {task.model_id}.",
            where=where,
        )
    check_chain(metadata, task)
    extras = extras if task.kind is TaskKind.TRAIN else {}
    _check_extras(metadata, extras, ready.size_bytes, where)
    if task.kind is TaskKind.TRAIN:
        check_metadata(metadata)
        check_required(metadata, required)
    if task.kind is TaskKind.VALIDATE:
        if ready.size_bytes:
            raise UpdateRefused("update_with_tensors", "the task is answered with metrics alone", where=where)
        return metadata
    expected = base.size_bytes if base is not None else None
    if base is not None and metadata.update_chain:
        expected = encodings(metadata.update_chain).max_bytes
    if expected is not None:
        expected += sum(spec.size_bytes for spec in extras.values())
    _check_size(ready, expected, max_bytes, where)
    return metadata


def _check_extras(
    metadata: UpdateMetadata, extras: Mapping[str, ModelSpec], size_bytes: int, where: dict[str, object]
) -> None:
    """Raises UpdateRefused (`update_other_extras`) where other sections follow the tensors than the rule carries."""
    named = [section.name for section in metadata.extras]
    larger = [
        section.name
        for section in metadata.extras
        if section.name in extras and section.size_bytes > extras[section.name].size_bytes + HEADER_SLACK_BYTES
    ]
    if named == list(extras) and not larger and sum(one.size_bytes for one in metadata.extras) < max(size_bytes, 1):
        return
    raise UpdateRefused(
        "update_other_extras",
        f"the update carries {', '.join(named) or 'nothing'} beside its tensors, and the plan's rule "
        f"{', '.join(extras) or 'nothing'}"
        + (f"; {', '.join(larger)} has more bytes than it can have" if larger else ""),
        fix="Return as extra what the task brought as extra, with the names and shapes of its tensors.",
        where=where,
    )


def _check_size(
    ready: wire.Ready,
    expected_bytes: int | None,
    max_bytes: int,
    where: dict[str, object],
) -> None:
    if ready.size_bytes == 0:
        raise UpdateRefused(
            "update_without_tensors", "the task is answered with tensors, and the result has none", where=where
        )
    check_digest(ready.object_id)
    if ready.size_bytes > max_bytes:
        raise UpdateRefused(
            "update_too_large",
            f"the result has {ready.size_bytes} bytes, and {max_bytes} are allowed",
            fix="Raise the combiner's setting max_model_bytes, or return a smaller model.",
            where=where,
        )
    if expected_bytes is not None and ready.size_bytes > expected_bytes + HEADER_SLACK_BYTES:
        raise UpdateRefused(
            "update_does_not_fit",
            f"the update has {ready.size_bytes} bytes, and one of its base model {expected_bytes} at the most",
            fix="Return all tensors of the model that the task brought, with their names, shapes and dtypes.",
            where=where,
        )
