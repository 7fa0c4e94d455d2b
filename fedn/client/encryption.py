"""A task's model is decrypted before its work, and what comes of it encrypted after it.

Runs in the agent, in threads beside its loop: the code that trains never has the key. Not here: the encryption itself
(fedn.privacy).
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from fedn.aggregation.checks import of_base_widths
from fedn.aggregation.numerics import is_floating
from fedn.aggregation.scaling.base import check_required, get_scaling_factor
from fedn.client.calls import TaskCall, TaskOutcome
from fedn.client.coding import Held
from fedn.client.objects import disk_error
from fedn.client.slots import HeldFile, Slot
from fedn.client.spool import Spool
from fedn.client.worker_channel import INLINE_BYTES
from fedn.models.digest import digest
from fedn.models.encrypted import Parameters, is_encrypted
from fedn.models.wire import Tensors, decode, differences, header_size, read_spec
from fedn.privacy.keys import read_key
from fedn.privacy.models import ModelCipher, tensors_of
from fedn.protocol.errors import InvalidInput, TaskFailed, UpdateRefused
from fedn.protocol.tasks import Encryption, TaskKind, UpdateMetadata

Bytes = bytearray | memoryview
MetadataOf = Callable[[TaskOutcome], UpdateMetadata]
"""What will be said of an outcome."""


class TaskEncryption:
    """Of a client. With a key, no tensors leave it unencrypted: tasks that ask for them fail.

    Args:
        spool: gives room for large models and results.
        key_file: None: this client has no key, and does only what needs none.

    Raises:
        InvalidInput: the key cannot be read or used.
    """

    def __init__(self, spool: Spool, key_file: Path | None) -> None:
        self._spool = spool
        self._cipher = None if key_file is None else ModelCipher(read_key(key_file))

    async def prepared(self, call: TaskCall, encryption: Encryption | None) -> "Prepared":
        """A task as a runtime can do it, to be entered: the plain model goes with the end of the block.

        Raises:
            TaskFailed: (`no_key`, `encryption_required`) what is asked for does not fit the key.
            InvalidInput: (`key_does_not_fit`, `bad_encrypted_model`).
            LimitExceeded: there is no room on the disk.
        """
        cipher, held = self._cipher, call.model
        encrypted = _has_encrypted(call)
        if cipher is None:
            if encrypted or encryption is not None:
                raise _no_key(call.kind, encryption)
            return Prepared(call, None, None, self._spool)
        if encryption is None and call.kind in {TaskKind.TRAIN, TaskKind.INIT}:
            raise TaskFailed(
                "encryption_required",
                f"this client encrypts what it sends, and the {call.kind} task asks for a model that is not encrypted",
                fix="Choose the rule secagg in the plan, or start the client without encryption_key.",
            )
        if held is None or not encrypted:
            return Prepared(call, cipher, encryption, self._spool)
        limit = encryption.max_value if encryption is not None else math.inf
        plain = await asyncio.to_thread(_decrypted, cipher, held, limit)
        if len(plain) <= INLINE_BYTES:
            return Prepared(replace(call, model=bytearray(plain)), cipher, encryption, self._spool)
        slot = await _stored(self._spool, plain)
        model = HeldFile(slot.path, len(plain), slot)
        return Prepared(replace(call, model=model), cipher, encryption, self._spool, slot)


@dataclass(frozen=True)
class Prepared:
    """A task whose model is plain."""

    call: TaskCall
    _cipher: ModelCipher | None
    _encryption: Encryption | None
    _spool: Spool
    _plain: Slot | None = None
    """What holds the plain model, where it is large."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._plain is not None:
            self._spool.discard(self._plain)

    async def encrypted(self, outcome: TaskOutcome, metadata_of: MetadataOf) -> TaskOutcome:
        """What the runtime made, as it may leave this client; tensors in another slot than the call's are the caller's.

        Raises:
            TaskFailed: (`weight_out_of_range`) the plan's sum does not take such an update.
            UpdateRefused: (`update_does_not_fit`, `update_lacks_metadata`) it is none of the model.
            InvalidInput: (`key_does_not_fit`, `value_too_large`).
            LimitExceeded: there is no room on the disk.
        """
        cipher = self._cipher
        if cipher is None or not outcome.object_id:
            return outcome
        data = await asyncio.to_thread(_encrypted, cipher, self.call, outcome, self._encryption, metadata_of)
        small = len(data) <= INLINE_BYTES
        return replace(
            outcome,
            form="model",
            object_id=digest(data, self.call.algorithm),
            size_bytes=len(data),
            tensors=bytearray(data) if small else await _stored(self._spool, data),
            coded=False,
            decoded_bytes=outcome.size_bytes,
            key_id=cipher.key_id,
        )


async def _stored(spool: Spool, data: Bytes) -> Slot:
    slot = spool.work(len(data))
    try:
        await asyncio.to_thread(slot.store, data)
    except OSError as error:
        slot.unlink()
        raise disk_error(error, f"a model of {len(data)} bytes", slot.path.parent) from error
    return slot


def _has_encrypted(call: TaskCall) -> bool:
    """Whether the model is encrypted; what cannot be one is left to the runtime, which says so."""
    held = call.model
    if held is None or call.model_chain or call.extras:
        return False
    data = held.mapped() if isinstance(held, HeldFile) else memoryview(held)
    try:
        return is_encrypted(read_spec(data[: header_size(data[:8]) or 0], len(data)))
    except InvalidInput:
        return False


def _decrypted(cipher: ModelCipher, held: Held, max_value: float) -> Bytes:
    return cipher.decrypt(held.mapped() if isinstance(held, HeldFile) else held, max_value=max_value)


def _encrypted(
    cipher: ModelCipher, call: TaskCall, outcome: TaskOutcome, encryption: Encryption | None, metadata_of: MetadataOf
) -> Bytes:
    """What a task made, encrypted: an update times its weight, for the sum; anything else alone."""
    tensors = outcome.tensors
    assert tensors is not None  # there is an object
    made = tensors.view(outcome.size_bytes) if isinstance(tensors, Slot) else memoryview(tensors)
    if call.kind is not TaskKind.TRAIN or encryption is None:
        return cipher.encrypt(decode(made), cipher.alone)
    assert call.model is not None  # a task that trains has one
    base = call.model.mapped() if isinstance(call.model, HeldFile) else memoryview(call.model)
    scaling = get_scaling_factor(encryption.scaling_factor, encryption.scaling_options)
    metadata = metadata_of(outcome)
    check_required(metadata, [(name, f"the scaling factor {scaling.name}") for name in sorted(scaling.required)])
    weight = scaling.weight_of(metadata)
    if not encryption.min_weight <= weight <= encryption.max_weight:
        raise TaskFailed(
            "weight_out_of_range",
            f"the update weighs {weight:g}, and the plan allows {encryption.min_weight:g} to {encryption.max_weight:g}",
            fix="Change min_weight or max_weight in the options of the rule secagg.",
        )
    parameters = Parameters(encryption.key_id, encryption.degree, encryption.scale_bits)
    update = _model_of(made, base, outcome.form)
    return cipher.encrypt(update, parameters, weight=weight, max_value=encryption.max_value)


def _model_of(made: memoryview, base: memoryview, form: str) -> Tensors:
    """The trained model, in the order and the dtypes of the model that the training began with."""
    spec = read_spec(base)
    if faults := differences(of_base_widths(read_spec(made), spec), spec):
        raise UpdateRefused(
            "update_does_not_fit",
            f"what was trained does not fit the model: {'; '.join(faults[:20])}",
            fix="Return all tensors of the model that the task brought, with their names, shapes and dtypes.",
        )
    update = tensors_of(made, spec)
    if form == "delta":
        start = tensors_of(base, spec)
        update = {
            name: start[name].astype(np.float64) + array if is_floating(array.dtype) else array
            for name, array in update.items()
        }
    with np.errstate(over="ignore"):  # what is not finite is looked for when it is encrypted
        return {name: array.astype(spec.by_name[name].dtype, copy=False) for name, array in update.items()}


def _no_key(kind: TaskKind, encryption: Encryption | None) -> TaskFailed:
    which = f", {encryption.key_id}" if encryption is not None else ""
    return TaskFailed(
        "no_key",
        f"the {kind} task is about an encrypted model, and this client has no key{which}",
        fix="Ask a data owner for the key's file, and start the client with --encryption-key FILE.",
    )
