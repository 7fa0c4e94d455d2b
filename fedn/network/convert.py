"""Between the types of `fedn.protocol` and the messages of `proto/fedn/v1`: each pair of functions is symmetric.

Free-form values (hyper-parameters, rule options) travel as JSON text, so that integers stay integers.
"""

import json
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from fedn.network.generated import combiner_pb2 as link
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import FednError, InvalidInput
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, Reason, RoundSpec
from fedn.protocol.tasks import CodecChoice, Encryption, RoundName, Section, TaskKind, TaskSpec, UpdateMetadata

_KINDS = {
    TaskKind.INIT: wire.TASK_KIND_INIT,
    TaskKind.TRAIN: wire.TASK_KIND_TRAIN,
    TaskKind.VALIDATE: wire.TASK_KIND_VALIDATE,
    TaskKind.PREDICT: wire.TASK_KIND_PREDICT,
}
_KINDS_BACK: dict[int, TaskKind] = {value: kind for kind, value in _KINDS.items()}
_STATES = {
    LedgerState.NOT_SELECTED: link.LEDGER_STATE_NOT_SELECTED,
    LedgerState.SELECTED: link.LEDGER_STATE_SELECTED,
    LedgerState.TRAINING: link.LEDGER_STATE_TRAINING,
    LedgerState.UPLOADING: link.LEDGER_STATE_UPLOADING,
    LedgerState.UPDATED: link.LEDGER_STATE_UPDATED,
    LedgerState.LATE: link.LEDGER_STATE_LATE,
    LedgerState.REFUSED: link.LEDGER_STATE_REFUSED,
    LedgerState.FAILED: link.LEDGER_STATE_FAILED,
    LedgerState.DISCONNECTED: link.LEDGER_STATE_DISCONNECTED,
}
_STATES_BACK: dict[int, LedgerState] = {value: state for state, value in _STATES.items()}


def _bad(what: str, why: object) -> InvalidInput:
    return InvalidInput("bad_message", f"{what} is not valid: {why}", fix="The peer speaks another version: update it.")


def round_to_wire(name: RoundName) -> wire.RoundName:
    return wire.RoundName(session=name.session, index=name.index, attempt=name.attempt, epoch=name.epoch)


def round_from_wire(message: wire.RoundName) -> RoundName:
    return RoundName(session=message.session, index=message.index, attempt=message.attempt, epoch=message.epoch)


def kind_to_wire(kind: TaskKind) -> wire.TaskKind:
    return _KINDS[kind]


def kind_from_wire(value: int) -> TaskKind:
    """InvalidInput (`bad_message`) for a kind that this version does not know."""
    kind = _KINDS_BACK.get(value)
    if kind is None:
        raise _bad("task kind", value)
    return kind


def reason_to_wire(reason: Reason | FednError, *, retryable: bool = False) -> wire.Problem:
    retry = reason.retryable if isinstance(reason, FednError) else retryable
    return wire.Problem(code=reason.code, message=reason.message, fix=reason.fix, retryable=retry)


def reason_from_wire(message: wire.Problem) -> Reason:
    return Reason(code=message.code, message=message.message, fix=message.fix)


def chain_to_wire(chain: Iterable[CodecChoice]) -> list[wire.Codec]:
    return [wire.Codec(name=choice.name, options_json=json.dumps(choice.options)) for choice in chain]


def chain_from_wire(chain: Iterable[wire.Codec]) -> tuple[CodecChoice, ...]:
    """InvalidInput (`bad_message`) where options are no JSON object, or a name is none."""
    try:
        return tuple(
            CodecChoice(name=codec.name, options=_json_object(codec.options_json, "options_json")) for codec in chain
        )
    except ValidationError as error:
        raise _bad("chain of codecs", error) from error


def extras_to_wire(extras: Iterable[Section]) -> list[wire.Section]:
    return [wire.Section(name=section.name, size_bytes=section.size_bytes) for section in extras]


def extras_from_wire(extras: Iterable[wire.Section]) -> tuple[Section, ...]:
    """InvalidInput (`bad_message`) where one has no name, or no bytes."""
    try:
        return tuple(Section(name=section.name, size_bytes=section.size_bytes) for section in extras)
    except ValidationError as error:
        raise _bad("extra state", error) from error


def task_to_wire(task: TaskSpec, name: RoundName, deadline_s: float) -> wire.Task:
    """A task as a client is told it; `deadline_s` is seconds from now."""
    return wire.Task(
        task_id=task.task_id,
        client=task.client,
        kind=kind_to_wire(task.kind),
        round=round_to_wire(name),
        model_id=task.model_id,
        validate_incoming=task.validate_incoming,
        step_budget=task.step_budget or 0,
        parameters_json=json.dumps(task.parameters),
        package_id=task.package_id,
        helper=task.helper,
        deadline_s=deadline_s,
        update_chain=chain_to_wire(task.update_chain),
        model_chain=chain_to_wire(task.model_chain),
        encoded_model_id=task.encoded_model_id,
        encryption_json="" if task.encryption is None else task.encryption.model_dump_json(),
        input_id=task.input_id,
        extras=extras_to_wire(task.extras),
        required_metadata=task.required_metadata,
        counted=0 if task.last_counted is None else task.last_counted + 1,
    )


def _json_object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise _bad(what, error) from error
    if not isinstance(value, dict):
        raise _bad(what, "it must be a JSON object")
    return value


def task_from_wire(message: wire.Task) -> TaskSpec:
    return TaskSpec(
        task_id=message.task_id,
        client=message.client,
        kind=kind_from_wire(message.kind),
        model_id=message.model_id,
        validate_incoming=message.validate_incoming,
        step_budget=message.step_budget or None,
        parameters=_json_object(message.parameters_json, "parameters_json"),
        package_id=message.package_id,
        helper=message.helper,
        update_chain=chain_from_wire(message.update_chain),
        model_chain=chain_from_wire(message.model_chain),
        encoded_model_id=message.encoded_model_id,
        encryption=_encryption_from_wire(message.encryption_json),
        input_id=message.input_id,
        extras=extras_from_wire(message.extras),
        required_metadata=dict(message.required_metadata),
        last_counted=message.counted - 1 if message.counted else None,
    )


def _encryption_from_wire(text: str) -> Encryption | None:
    try:
        return Encryption.model_validate_json(text) if text else None
    except ValidationError as error:
        raise _bad("encryption_json", error) from error


def metadata_to_wire(metadata: UpdateMetadata) -> wire.UpdateMetadata:
    return wire.UpdateMetadata(
        task_id=metadata.task_id,
        client=metadata.client,
        round=round_to_wire(metadata.round),
        base_model_id=metadata.base_model_id,
        form=metadata.form,
        num_examples=metadata.num_examples,
        num_steps=metadata.num_steps,
        ms_per_step=metadata.ms_per_step,
        ms_per_epoch=metadata.ms_per_epoch,
        task_ms=metadata.task_ms,
        train_ms=metadata.train_ms,
        validate_ms=metadata.validate_ms,
        metrics=metadata.metrics,
        validation=metadata.validation,
        num_validation_examples=metadata.num_validation_examples,
        update_chain=chain_to_wire(metadata.update_chain),
        decoded_bytes=metadata.decoded_bytes,
        model_chain=chain_to_wire(metadata.model_chain),
        model_bytes=metadata.model_bytes,
        key_id=metadata.key_id,
        cpu_ms=metadata.cpu_ms,
        memory_bytes=metadata.memory_bytes,
        extras=extras_to_wire(metadata.extras),
    )


def metadata_from_wire(message: wire.UpdateMetadata) -> UpdateMetadata:
    """InvalidInput (`bad_message`) where a value is out of its range."""
    try:
        return UpdateMetadata(
            task_id=message.task_id,
            client=message.client,
            round=round_from_wire(message.round),
            base_model_id=message.base_model_id,
            form=message.form or "model",
            num_examples=message.num_examples,
            num_steps=message.num_steps,
            ms_per_step=message.ms_per_step,
            ms_per_epoch=message.ms_per_epoch,
            task_ms=message.task_ms,
            train_ms=message.train_ms,
            validate_ms=message.validate_ms,
            metrics=dict(message.metrics),
            validation=dict(message.validation),
            num_validation_examples=message.num_validation_examples,
            update_chain=chain_from_wire(message.update_chain),
            decoded_bytes=message.decoded_bytes,
            model_chain=chain_from_wire(message.model_chain),
            model_bytes=message.model_bytes,
            key_id=message.key_id,
            cpu_ms=message.cpu_ms,
            memory_bytes=message.memory_bytes,
            extras=extras_from_wire(message.extras),
        )
    except ValidationError as error:
        raise _bad("update metadata", error) from error


def spec_to_wire(spec: RoundSpec) -> link.StartRound:
    return link.StartRound(
        round=round_to_wire(spec.name),
        tasks=[task_to_wire(task, spec.name, spec.deadline_s) for task in spec.tasks],
        deadline_s=spec.deadline_s,
        upload_grace_s=spec.upload_grace_s,
        disconnect_grace_s=spec.disconnect_grace_s,
        rule=spec.rule,
        rule_options_json=json.dumps(spec.rule_options),
        scaling_factor=spec.scaling_factor,
        scaling_options_json=json.dumps(spec.scaling_options),
        sum_dtype=spec.sum_dtype,
        deterministic=spec.deterministic,
        combiner_optimizer=spec.combiner_optimizer,
        combiner_optimizer_options_json=json.dumps(spec.combiner_optimizer_options),
        optimizer_state_id=spec.optimizer_state_id,
        members=None if spec.members is None else link.Members(clients=spec.members),
        required_metadata=spec.required_metadata,
        buffered=spec.buffered,
    )


def spec_from_wire(message: link.StartRound) -> RoundSpec:
    """InvalidInput (`bad_message`) where a value is out of its range."""
    try:
        return RoundSpec(
            name=round_from_wire(message.round),
            tasks=tuple(task_from_wire(task) for task in message.tasks),
            deadline_s=message.deadline_s,
            upload_grace_s=message.upload_grace_s,
            disconnect_grace_s=message.disconnect_grace_s,
            rule=message.rule,
            rule_options=_json_object(message.rule_options_json, "rule_options_json"),
            scaling_factor=message.scaling_factor or "NumTrainingExamples",
            scaling_options=_json_object(message.scaling_options_json, "scaling_options_json"),
            sum_dtype=message.sum_dtype,
            deterministic=message.deterministic,
            combiner_optimizer=message.combiner_optimizer,
            combiner_optimizer_options=_json_object(
                message.combiner_optimizer_options_json, "combiner_optimizer_options_json"
            ),
            optimizer_state_id=message.optimizer_state_id,
            members=tuple(message.members.clients) if message.HasField("members") else None,
            required_metadata=dict(message.required_metadata),
            buffered=message.buffered,
        )
    except ValidationError as error:
        raise _bad("round", error) from error


def ledger_to_wire(entry: LedgerEntry) -> link.LedgerChange:
    return link.LedgerChange(
        client=entry.client,
        task_id=entry.task_id,
        state=_STATES[entry.state],
        problem=reason_to_wire(entry.reason) if entry.reason else None,
        metadata=metadata_to_wire(entry.metadata) if entry.metadata else None,
        object_id=entry.update_id,
        size_bytes=entry.size_bytes,
        down_bytes=entry.down_bytes,
        up_bytes=entry.up_bytes,
        busy_ms=entry.busy_ms,
        sent_unix_s=entry.sent_at,
    )


def ledger_from_wire(message: link.LedgerChange, *, combiner: str, updated_at: float) -> LedgerEntry:
    """InvalidInput (`bad_message`) for a state that this version does not know."""
    state = _STATES_BACK.get(message.state)
    if state is None:
        raise _bad("ledger state", message.state)
    return LedgerEntry(
        client=message.client,
        combiner=combiner,
        task_id=message.task_id,
        state=state,
        reason=reason_from_wire(message.problem) if message.HasField("problem") else None,
        update_id=message.object_id,
        size_bytes=message.size_bytes,
        metadata=metadata_from_wire(message.metadata) if message.HasField("metadata") else None,
        down_bytes=message.down_bytes,
        up_bytes=message.up_bytes,
        busy_ms=message.busy_ms,
        sent_at=message.sent_unix_s,
        updated_at=updated_at,
    )


def result_to_wire(model: CombinerModel, reason: str) -> link.RoundDone:
    return link.RoundDone(
        reason=reason,
        model_id=model.model_id,
        size_bytes=model.size_bytes,
        weight=model.weight,
        contributions=[
            link.Contribution(
                client=part.client,
                update_id=part.update_id,
                num_examples=part.num_examples,
                weight=part.weight,
                base_index=part.base_index,
            )
            for part in model.contributions
        ],
        fold_ms=model.fold_ms,
        memory_bytes=model.memory_bytes,
    )


def result_from_wire(message: link.RoundDone, combiner: str) -> CombinerModel:
    return CombinerModel(
        combiner=combiner,
        model_id=message.model_id,
        size_bytes=message.size_bytes,
        weight=message.weight,
        contributions=tuple(
            Contribution(
                client=part.client,
                update_id=part.update_id,
                num_examples=part.num_examples,
                weight=part.weight,
                base_index=part.base_index if part.HasField("base_index") else None,
            )
            for part in message.contributions
        ),
        fold_ms=message.fold_ms,
        memory_bytes=message.memory_bytes,
    )
