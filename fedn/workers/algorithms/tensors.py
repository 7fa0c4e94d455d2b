"""Arithmetic on models that are named arrays. Nothing here changes what it is given."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fedn.models.wire import Tensors
from fedn.protocol.errors import InvalidInput

Array = np.ndarray[Any, Any]


def weighted_sum(terms: Iterable[tuple[float, Mapping[str, Array]]]) -> Tensors:
    """Σ weight · tensors, summed in float64 and in the dtype of the first term's tensors afterwards.

    Raises:
        InvalidInput: (`models_differ`) there is none, or names or shapes are not those of the first.
    """
    totals: Tensors = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    for weight, tensors in terms:
        if not dtypes:
            dtypes = {name: array.dtype for name, array in tensors.items()}
            totals = {name: np.zeros(array.shape) for name, array in tensors.items()}
        if tensors.keys() != totals.keys():
            raise _differ(f"one has {sorted(tensors)}, the first {sorted(totals)}")
        for name, array in tensors.items():
            if array.shape != totals[name].shape:
                raise _differ(f"{name} is {array.shape} in one and {totals[name].shape} in the first")
            totals[name] += np.multiply(array, weight, dtype=np.float64)
    if not dtypes:
        raise _differ("there are none")
    return {name: total.astype(dtypes[name]) for name, total in totals.items()}


def descend(tensors: Mapping[str, Array], gradient: Mapping[str, Array], learning_rate: float) -> Tensors:
    """A step of gradient descent: tensors - learning_rate · gradient; raises as `weighted_sum`."""
    return weighted_sum([(1.0, tensors), (-learning_rate, gradient)])


def _differ(fault: str) -> InvalidInput:
    return InvalidInput(
        "models_differ", f"Models cannot be added up: {fault}", fix="Let all workers start from the same model."
    )
