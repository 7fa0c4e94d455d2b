"""Between a model's bytes and the weights a learner sees, and back. Pure: no process, no file."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fedn.client.learner import positional
from fedn.models.wire import ModelSpec, Tensors, read_spec
from fedn.protocol.errors import TaskFailed

_POSITION = re.compile(r"(?:arr_)?(\d+)")


def weights_from_bytes(buffer: bytearray | memoryview, spec: ModelSpec, *, writable: bool) -> Any:
    """Views into `buffer` (which must be writable), as a list where names are positions, else as a dict.

    Positions are "0", "1", … (also zero-padded) or, as in `.npz` files of unnamed arrays, "arr_0", "arr_1", …
    """
    arrays = {}
    for tensor in spec.tensors:
        count = (tensor.stop - tensor.start) // tensor.dtype.itemsize
        array = np.frombuffer(buffer, tensor.dtype, count, tensor.start).reshape(tensor.shape)
        array.flags.writeable = writable
        arrays[tensor.name] = array
    order = _positions(tuple(arrays))
    return arrays if order is None else [arrays[name] for name in order]


def position_of(name: str) -> int | None:
    """The position that a tensor's name says it has in a list; None where it says none."""
    match = _POSITION.fullmatch(name)
    return None if match is None else int(match.group(1))


@lru_cache(maxsize=8)
def _positions(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names in the order of the positions that they are; None where they are no positions."""
    found: dict[int, str] = {}
    for name in names:
        position = position_of(name)
        if position is None:
            return None
        found[position] = name
    if not names or sorted(found) != list(range(len(names))):
        return None
    return tuple(found[position] for position in range(len(names)))


def weights_to_tensors(weights: Any, base: ModelSpec | None, *, what: str) -> Tensors:
    """The named tensors of what a learner returned; its own arrays where they are as they must be.

    With `base`, names and shapes must be its own (a list is named in its order) and each tensor gets its dtype: any
    number becomes a float of its width, integers and booleans are converted only where nothing can be lost. The order
    of tensors is the base's.

    Raises:
        TaskFailed: `bad_weights`, with every reason.
    """
    named = _named(weights, base, what)
    arrays: Tensors = {}
    reasons: list[str] = []
    if base is None:
        arrays = {name: _array(name, value, what) for name, value in named.items()}
    else:
        reasons += [f"{name!r} is missing" for name in base.names if name not in named]
        reasons += [f"{name!r} is not in the model" for name in named if name not in base.by_name]
        for tensor in base.tensors:
            if tensor.name not in named:
                continue
            array = _array(tensor.name, named[tensor.name], what)
            if array.shape != tuple(tensor.shape):
                reasons.append(f"{tensor.name!r} has shape {array.shape}, the model {tuple(tensor.shape)}")
            elif array.dtype != tensor.dtype and not _convertible(array.dtype, tensor.dtype):
                reasons.append(f"{tensor.name!r} has dtype {array.dtype}, the model {tensor.dtype}")
            else:
                arrays[tensor.name] = array.astype(tensor.dtype, copy=False)
    if reasons:
        raise _bad_weights(f"{what} returned weights that do not fit the model: {'; '.join(reasons[:20])}")
    return arrays


def spec_of(buffer: bytearray | memoryview | bytes) -> ModelSpec:
    """The header of a model's bytes. InvalidInput (`bad_model`) where they are none."""
    return read_spec(buffer)


def _named(weights: Any, base: ModelSpec | None, what: str) -> dict[str, Any]:
    if isinstance(weights, Mapping):
        bad = [name for name in weights if not isinstance(name, str)]
        if bad:
            raise _bad_weights(f"{what} returned a mapping with the key {bad[0]!r}: names must be strings")
        return dict(weights)
    if not isinstance(weights, Sequence) or isinstance(weights, str | bytes | bytearray):
        raise _bad_weights(f"{what} returned {type(weights).__name__} as weights: a list or a dict of arrays is needed")
    if base is None:
        return positional(weights)
    names = _positions(base.names) or base.names
    if len(names) != len(weights):
        raise _bad_weights(f"{what} returned {len(weights)} arrays, the model has {len(names)}")
    return dict(zip(names, weights, strict=True))


def _array(name: str, value: Any, what: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiubV" or array.dtype.hasobject:
        raise _bad_weights(f"{what} returned {type(value).__name__} of dtype {array.dtype} as {name!r}")
    return array


def _convertible(given: np.dtype, wanted: np.dtype) -> bool:
    # bfloat16 (of ml_dtypes) has the kind "V": NumPy's own casting table knows nothing of it.
    return wanted.kind in "fV" or bool(np.can_cast(given, wanted, "safe"))


def _bad_weights(message: str) -> TaskFailed:
    return TaskFailed(
        "bad_weights", message, fix="Return the tensors that the task's model has, with their names and shapes."
    )
