"""What a result must say of itself before its first byte is taken."""

from fedn.aggregation.checks import check_metadata
from fedn.combiner.options import HEADER_SLACK_BYTES
from fedn.models.wire import ModelSpec
from fedn.network.convert import metadata_from_wire
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.names import check_digest
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec, UpdateMetadata


def check_announcement(
    ready: wire.Ready, task: TaskSpec, name: RoundName, base: ModelSpec | None, max_bytes: int
) -> UpdateMetadata:
    """The metadata of a result that may be taken.

    Args:
        base: of the model that a train task works on; None for other kinds.
        max_bytes: largest result allowed.

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
    if task.kind is TaskKind.TRAIN:
        check_metadata(metadata)
    if task.kind is TaskKind.VALIDATE:
        if ready.size_bytes:
            raise UpdateRefused("update_with_tensors", "the task is answered with metrics alone", where=where)
        return metadata
    _check_size(ready, metadata, base, max_bytes, where)
    return metadata


def _check_size(
    ready: wire.Ready,
    metadata: UpdateMetadata,
    base: ModelSpec | None,
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
    if base is not None and ready.size_bytes > base.size_bytes + HEADER_SLACK_BYTES:
        raise UpdateRefused(
            "update_does_not_fit",
            f"the update has {ready.size_bytes} bytes, and its base model {base.size_bytes}",
            fix="Return all tensors of the model that the task brought, with their names, shapes and dtypes.",
            where=where,
        )
