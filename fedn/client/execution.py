"""Does one task with a Learner and checks what it returns. Runs in the worker process only; knows no socket."""

import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn

import numpy as np

from fedn.client.coding import TaskCoding
from fedn.client.learner import Learner, TaskContext, TrainResult
from fedn.client.weights import spec_of, weights_from_bytes, weights_to_tensors
from fedn.models.wire import Tensors, layout
from fedn.protocol.errors import FednError, TaskFailed
from fedn.protocol.tasks import TaskKind

_METADATA = tuple(item.name for item in fields(TrainResult) if item.name not in {"weights", "metrics"})


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A task's result inside the worker: its numbers, and its tensors (None where it makes none)."""

    numbers: dict[str, Any] = field(default_factory=dict)
    tensors: Tensors | bytes | bytearray | memoryview | None = None
    """The bytes that go out, where a chain made them; else the tensors, which may be the learner's own arrays: it may
    change them in its next task."""
    extras: dict[str, Tensors] = field(default_factory=dict)
    """What follows them, by name and in this order."""


def kinds_of(learner: Learner) -> list[TaskKind]:
    """What a learner can do: evaluate and predict are optional."""
    kinds = [TaskKind.INIT, TaskKind.TRAIN]
    if learner.validates:
        kinds.append(TaskKind.VALIDATE)
    if type(learner).predict is not Learner.predict:
        kinds.append(TaskKind.PREDICT)
    return kinds


def execute(learner: Learner, context: TaskContext, coding: TaskCoding, *, validate_incoming: bool) -> Execution:
    """One task. The only place where exceptions of the site's own code are caught: they become TaskFailed."""
    model = coding.model()
    try:
        return _STEPS[TaskKind(context.kind)](learner, context, model, coding, validate_incoming)
    except FednError:
        raise
    except Exception as error:  # noqa: BLE001 (the boundary to the site's own code)
        fail(error, f"{context.kind} failed")


def fail(error: BaseException, what: str) -> NoReturn:
    """Raises what an error of the site's own code is for the federation: its type, text and place, no traceback."""
    traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = (
        f" (line {frames[-1].lineno} of {frames[-1].filename.rsplit('/', 1)[-1]}, in {frames[-1].name})"
        if frames
        else ""
    )
    text = " ".join(str(error).split())[:1000]
    raise TaskFailed(
        "learner_failed",
        f"{what}: {type(error).__name__}: {text}{place}",
        fix="The whole traceback is in the client's log.",
    ) from error


def _init(learner: Learner, context: TaskContext, model: Any, coding: TaskCoding, validate: bool) -> Execution:
    return Execution(tensors=weights_to_tensors(learner.get_weights(), None, what="get_weights"))


def _train(learner: Learner, context: TaskContext, model: Any, coding: TaskCoding, validate: bool) -> Execution:
    numbers: dict[str, Any] = {}
    if validate and TaskKind.VALIDATE in kinds_of(learner):
        validated = _evaluate(learner, context, model)
        numbers = {
            "validation": validated["metrics"],
            "num_validation_examples": validated["num_examples"],
            "validate_ms": validated["validate_ms"],
        }
    spec = spec_of(model)
    told = replace(context, extra=coding.extras)
    started = time.perf_counter()
    returned = learner.train(weights_from_bytes(model, spec, writable=True), told)
    train_ms = (time.perf_counter() - started) * 1e3
    result = _train_result(returned)
    extras = fitting_extras(result.extra, coding.extras)
    numbers |= {
        "train_ms": train_ms,
        "num_examples": whole(result.num_examples, "num_examples", at_least=1),
        "num_steps": whole(result.num_steps, "num_steps"),
        "ms_per_step": _time(result.ms_per_step, "ms_per_step"),
        "ms_per_epoch": _time(result.ms_per_epoch, "ms_per_epoch"),
        "metrics": plain_metrics(result.metrics, "train"),
    }
    encoded = coding.encode(weights_to_tensors(result.weights, spec, what="train"), spec, result.form)
    numbers |= {"form": encoded.form, "coded": encoded.coded, "decoded_bytes": encoded.decoded_bytes}
    return Execution(numbers=numbers, tensors=encoded.data, extras=extras)


def fitting_extras(given: Mapping[str, Any], wanted: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """What goes behind an update: for each set that came, tensors that fit it. TaskFailed (`bad_result`)."""
    if set(given) != set(wanted):
        raise TaskFailed(
            "bad_result",
            f"train returned as extra {', '.join(sorted(given)) or 'nothing'}, and the plan's rule needs "
            f"{', '.join(sorted(wanted)) or 'nothing'}",
            fix="Return as TrainResult.extra a change for each set of TaskContext.extra; fedn.Scaffold makes one.",
        )
    return {
        name: weights_to_tensors(
            given[name], layout((key, one.dtype, one.shape) for key, one in tensors.items())[1], what="train"
        )
        for name, tensors in wanted.items()
    }


def _validate(learner: Learner, context: TaskContext, model: Any, coding: TaskCoding, validate: bool) -> Execution:
    return Execution(numbers=_evaluate(learner, context, model))


def _predict(learner: Learner, context: TaskContext, model: Any, coding: TaskCoding, validate: bool) -> Execution:
    weights = weights_from_bytes(model, spec_of(model), writable=False)
    return Execution(tensors=weights_to_tensors(learner.predict(weights, context), None, what="predict"))


_STEPS = {
    TaskKind.INIT: _init,
    TaskKind.TRAIN: _train,
    TaskKind.VALIDATE: _validate,
    TaskKind.PREDICT: _predict,
}


def _evaluate(learner: Learner, context: TaskContext, model: Any) -> dict[str, Any]:
    started = time.perf_counter()
    returned = learner.evaluate(weights_from_bytes(model, spec_of(model), writable=False), context)
    validate_ms = (time.perf_counter() - started) * 1e3
    values: Any
    num_examples: Any
    values, num_examples = returned if isinstance(returned, tuple) else (returned, 0)
    if not isinstance(values, Mapping):
        raise _bad_result(
            "evaluate", f"returned {type(values).__name__}: metrics, or (metrics, num_examples), are needed"
        )
    values = dict(values)
    num_examples = values.pop("num_examples", num_examples)
    return {
        "metrics": plain_metrics(values, "evaluate"),
        "num_examples": whole(num_examples, "num_examples"),
        "validate_ms": validate_ms,
    }


def _train_result(returned: Any) -> TrainResult:
    if isinstance(returned, TrainResult):
        return returned
    if not isinstance(returned, tuple) or len(returned) not in {2, 3}:
        raise _bad_result(
            "train",
            "must return a TrainResult, (weights, metrics) or (weights, metrics, metadata), "
            f"not {type(returned).__name__}",
        )
    weights, metrics, metadata = returned if len(returned) == 3 else (*returned, {})
    if not isinstance(metrics, Mapping) or not isinstance(metadata, Mapping):
        raise _bad_result("train", "returned metrics or metadata that are no mapping")
    unknown = [str(name) for name in metadata if name not in _METADATA]
    if unknown:
        raise _bad_result("train", f"returned the unknown metadata {', '.join(unknown)}; known: {', '.join(_METADATA)}")
    values, known = dict(metrics), dict(metadata)
    if "num_examples" not in known:
        if "num_examples" not in values:
            raise _bad_result("train", "returned no num_examples")
        known["num_examples"] = values.pop("num_examples")
    return TrainResult(weights=weights, metrics=values, **known)


def plain_metrics(metrics: Mapping[str, Any], step: str) -> dict[str, float]:
    """Metrics as plain floats (NaN allowed). TaskFailed (`bad_result`) names one that is no number."""
    plain: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            plain[str(name)] = float(np.asarray(value).item())
        except (TypeError, ValueError) as error:
            raise _bad_result(
                step, f"returned {type(value).__name__} as metric {name!r}: one number is needed"
            ) from error
        if not 1 <= len(str(name)) <= 128:
            raise _bad_result(
                step, f"returned a metric with a name of {len(str(name))} characters: 1 to 128 are allowed"
            )
    return plain


def whole(value: Any, name: str, *, at_least: int = 0) -> int:
    """A count. TaskFailed (`bad_result`) where it is none."""
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError) as error:
        raise _bad_result("the step", f"returned {type(value).__name__} as {name}: a whole number is needed") from error
    if not math.isfinite(number) or number != int(number) or not at_least <= number < 1 << 63:
        raise _bad_result("the step", f"returned {value!r} as {name}: a whole number of at least {at_least} is needed")
    return int(number)


def _time(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise _bad_result("the step", f"returned {value!r} as {name}: milliseconds are needed") from error
    if not (math.isfinite(number) and number >= 0):
        raise _bad_result("the step", f"returned {value!r} as {name}: milliseconds are needed")
    return number


def _bad_result(step: str, what: str) -> TaskFailed:
    return TaskFailed("bad_result", f"{step} {what}", fix="See fedn.Learner for what each method returns.")
