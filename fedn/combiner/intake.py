"""What a result must say of itself before its first byte is taken."""

from collections.abc import Mapping

from fedn.aggregation.checks import check_metadata
from fedn.aggregation.scaling.base import check_required
from fedn.combiner.buffers import Storage
from fedn.combiner.coding import check_chain
from fedn.combiner.options import HEADER_SLACK_BYTES
from fedn.combiner.results import Results
from fedn.combiner.tasks import OpenTask
from fedn.combiner.uploads import Upload, UploadOwner
from fedn.models.codecs.chain import Encoding
from fedn.models.wire import ModelSpec
from fedn.network.convert import metadata_from_wire
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.names import check_digest
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec, UpdateMetadata


class Intake:
    """Of one round.

    Args:
        results: the round's, which know what updates must be like.
        max_bytes: largest result allowed.
    """

    def __init__(self, name: RoundName, results: Results, max_bytes: int) -> None:
        self._name = name
        self._results = results
        self._max_bytes = max_bytes

    def check(self, task: TaskSpec, ready: wire.Ready) -> UpdateMetadata:
        """The metadata of a result that may be taken.

        Raises:
            UpdateRefused, InvalidInput: it answers something else, has no weight, or cannot fit.
        """
        metadata = metadata_from_wire(ready.metadata)
        where = {"client": task.client, "task": task.task_id, "round": self._name}
        _check_work(metadata, task, self._name, where)
        check_chain(metadata, task)
        extras = self._results.extras if task.kind is TaskKind.TRAIN else {}
        _check_extras(metadata, extras, ready.size_bytes, where)
        if task.kind is TaskKind.TRAIN:
            check_metadata(metadata)
            check_required(metadata, self._results.required)
        if task.kind is TaskKind.VALIDATE:
            if ready.size_bytes:
                raise UpdateRefused("update_with_tensors", "the task is answered with metrics alone", where=where)
            return metadata
        _check_size(ready, self._expected_bytes(task, metadata, extras), self._max_bytes, where)
        return metadata

    def upload(
        self, owner: UploadOwner, task: OpenTask, ready: wire.Ready, metadata: UpdateMetadata, room: Storage | None
    ) -> Upload:
        """The upload of a result that was checked; with the room that was kept for it, if there is some."""
        return Upload(
            owner,
            task.spec.client,
            task.spec.task_id,
            ready.object_id,
            ready.size_bytes,
            self._base_of(task.spec),
            room,
            self._encoding_of(metadata),
            task.traffic,
            [(one.size_bytes, self._results.extras[one.name]) for one in metadata.extras],
        )

    def _base_of(self, task: TaskSpec) -> ModelSpec | None:
        """What the result must be like; None where any model is welcome."""
        return self._results.base if task.kind is TaskKind.TRAIN else None

    def _encoding_of(self, metadata: UpdateMetadata) -> Encoding | None:
        return self._results.encoding(metadata.update_chain) if metadata.update_chain else None

    def _expected_bytes(self, task: TaskSpec, metadata: UpdateMetadata, extras: Mapping[str, ModelSpec]) -> int | None:
        """The most that the result may have, but for its header; None where that is not known."""
        base = self._base_of(task)
        if base is None:
            return None
        encoding = self._encoding_of(metadata)
        own_bytes = base.size_bytes if encoding is None else encoding.max_bytes
        return own_bytes + sum(spec.size_bytes for spec in extras.values())


def _check_work(metadata: UpdateMetadata, task: TaskSpec, name: RoundName, where: dict[str, object]) -> None:
    """Raises UpdateRefused where the result is not of this task's work."""
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
