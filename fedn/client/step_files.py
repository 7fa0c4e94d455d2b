"""The files between the client and a command of a compute package: models, metrics, what is said of a training."""

import json
import logging
import math
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedn.client.calls import TaskCall, TaskOutcome
from fedn.client.coding import TaskCoding
from fedn.client.execution import plain_metrics, whole
from fedn.client.objects import disk_error
from fedn.client.slots import Slot
from fedn.client.worker_channel import INLINE_BYTES
from fedn.models.digest import digest
from fedn.models.files import read_tensors, write_tensors
from fedn.models.wire import ModelSpec, Tensors, decode, differences, encode, layout, read_spec
from fedn.protocol.errors import FednError, TaskFailed
from fedn.protocol.tasks import TaskKind

_LOG = logging.getLogger(__name__)
_COUNTS = ("num_examples", "num_steps")
_TIMES = ("ms_per_step", "ms_per_epoch")
_MAX_JSON_BYTES = 4 << 20


def provide_model(coding: TaskCoding, target: Path) -> ModelSpec | None:
    """Writes the task's model, if it has one, where a command reads it, in the format that the suffix names.

    It is the command's own copy. The model's spec is returned.
    """
    model = coding.model()
    if model is None:
        return None
    if target.suffix == ".npz":
        write_tensors(target, decode(model))
    else:
        target.write_bytes(model)
    return read_spec(model)


def read_output(made: Path, step: str) -> Tensors:
    """The tensors of a file that a command wrote. TaskFailed (`bad_output`) where it wrote none."""
    if not _is_plain(made):
        raise _bad_output(f"the {step} step ended without writing {made.name}")
    try:
        return read_tensors(made)
    except FednError as error:
        raise _bad_output(f"what the {step} step wrote as {made.name} is no model: {error.message}") from error


def take_model(
    made: Path,
    call: TaskCall,
    coding: TaskCoding,
    spec: ModelSpec | None,
    outcome: TaskOutcome,
    extras: Mapping[str, Tensors],
) -> TaskOutcome:
    """The outcome with what a command wrote: the bytes, or `call.result`, which then has them.

    Args:
        spec: of the task's model.
        extras: what follows the model, by name.

    Raises:
        TaskFailed: (`bad_output`) there is no such file, it holds no model, or one that is not like the task's.
        LimitExceeded: (`disk_full`, `write_failed`).
    """
    tensors = read_output(made, call.kind)
    sections: dict[str, bytearray] = {}
    coded, form, decoded_bytes = False, outcome.form, 0
    data: bytes | bytearray | memoryview | None = None
    if call.kind is TaskKind.TRAIN and spec is not None and call.update_chain:
        _, written = layout((name, array.dtype, array.shape) for name, array in tensors.items())
        if faults := differences(written, spec):
            raise _bad_output(f"what the {call.kind} step wrote does not fit the model: {'; '.join(faults[:20])}")
        encoded = coding.encode(tensors, spec, outcome.form)
        coded, form, decoded_bytes = encoded.coded, encoded.form, encoded.decoded_bytes
        data = None if isinstance(encoded.data, dict) else encoded.data
    if data is None:
        sections = {name: encode(one) for name, one in extras.items()}
        data = bytearray().join([encode(tensors), *sections.values()])
        decoded_bytes = len(data)
    return replace(
        outcome,
        form=form,
        object_id=digest(data, call.algorithm),
        size_bytes=len(data),
        tensors=_kept(data, call),
        coded=coded,
        decoded_bytes=decoded_bytes,
        extras=[{"name": name, "size_bytes": len(part)} for name, part in sections.items()],
    )


def _kept(data: bytes | bytearray | memoryview, call: TaskCall) -> bytes | bytearray | Slot:
    if len(data) <= INLINE_BYTES or call.result is None:
        return bytes(data) if isinstance(data, memoryview) else data
    try:
        call.result.store(data)
    except OSError as error:
        raise disk_error(error, f"the result of task {call.task_id}", call.result.path.parent) from error
    return call.result


def read_metrics(path: Path) -> tuple[dict[str, float], int]:
    """(metrics, num_examples) that a `validate` command wrote; values that are no numbers (reports …) are left out."""
    content = _read_json(path, "the validate step")
    count = whole(content.pop("num_examples", 0), "num_examples")
    return plain_metrics(_numbers(content), "validate"), count


def read_training(result: Path, made: Path) -> dict[str, Any]:
    """Fields of a TaskOutcome that a `train` command wrote, to `result` or, as FEDn's packages do, beside its model.

    Numbers that are no such field count as metrics.
    """
    path = next((path for path in (result, made.with_name(f"{made.name}-metadata")) if _is_plain(path)), result)
    content = _read_json(path, "the train step")
    if "num_examples" not in content:
        raise TaskFailed(
            "bad_result",
            "the train step did not say num_examples",
            fix='Write {"num_examples": …} as JSON to the file named by FEDN_RESULT_FILE.',
        )
    fields: dict[str, Any] = {"num_examples": whole(content.pop("num_examples"), "num_examples", at_least=1)}
    fields |= {name: whole(content.pop(name), name) for name in _COUNTS if name in content}
    fields |= {name: _milliseconds(content.pop(name), name) for name in _TIMES if name in content}
    if "form" in content:
        fields["form"] = str(content.pop("form"))
    metrics = content.pop("metrics", {})
    if not isinstance(metrics, Mapping):
        raise TaskFailed("bad_result", "the train step wrote metrics that are no JSON object")
    fields["metrics"] = plain_metrics(_numbers(content) | dict(metrics), "train")
    return fields


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    numbers = {
        name: value for name, value in content.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    left_out = sorted(set(content) - set(numbers))
    if left_out:
        _LOG.info("not numbers, and so no metrics: %s", ", ".join(left_out))
    return numbers


def _milliseconds(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise TaskFailed("bad_result", f"the train step wrote {value!r} as {name}: milliseconds are needed")
    return float(value)


def _read_json(path: Path, step: str) -> dict[str, Any]:
    try:
        if not _is_plain(path):
            raise _bad_output(f"{step} ended without writing {path.name}")
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise _bad_output(f"{step} wrote more than {_MAX_JSON_BYTES} bytes of JSON")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _bad_output(f"what {step} wrote, {path.name}, cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _bad_output(f"{step} wrote {path.name}, which is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise _bad_output(f"{step} wrote {path.name}, which is no JSON object")
    return content


def _is_plain(path: Path) -> bool:
    """Whether a command wrote a file there: not a link, which could lead to files that it may not see itself."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _bad_output(message: str) -> TaskFailed:
    return TaskFailed(
        "bad_output", message, fix="The documentation of compute packages says which files a step writes."
    )
