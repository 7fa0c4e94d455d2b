"""Data of a site as two arrays, for frameworks that take arrays. Knows no framework."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedn.client.learner import TaskContext
from fedn.protocol.errors import InvalidInput

Arrays = tuple[Any, Any]
"""(x, y) with the same first dimension."""
ArraySource = Arrays | Callable[[TaskContext], Arrays]
"""The arrays, or a function that makes them from the TaskContext: where they depend on `data_path`, or the plan."""


def arrays_of(source: ArraySource, context: TaskContext) -> tuple[np.ndarray, np.ndarray]:
    """The examples of a task. InvalidInput (`bad_examples`) where they are not two arrays of one length."""
    found = source(context) if callable(source) else source
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise _bad(f"{type(found).__name__} is not (x, y)")
    x, y = np.asarray(found[0]), np.asarray(found[1])
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise _bad(f"x has shape {x.shape}, and y has shape {y.shape}")
    return x, y


def _bad(what: str) -> InvalidInput:
    return InvalidInput(
        "bad_examples",
        f"the site's examples cannot be used: {what}",
        fix="Give two arrays with as many examples in each, or a function of the TaskContext that returns them.",
    )
