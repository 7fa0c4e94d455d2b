"""Models that are plain arrays: a mapping of names to arrays, or a list of arrays."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from fedn.models.files import read_tensors
from fedn.models.helpers.base import check_fit, not_supported
from fedn.models.wire import DTYPES, Tensors

Array = np.ndarray[Any, Any]


class NumpyHelper:
    """Mappings and lists of arrays. The arrays of a list are named by position: "0", "1", …, padded to one width."""

    name = "numpy"

    def get_weights(self, model: Mapping[str, Array] | list[Array] | tuple[Array, ...]) -> Tensors:
        """Copies of the arrays, in the mapping's or the list's order."""
        return {name: np.array(array) for name, array in _named(model).items()}

    def set_weights(self, model: MutableMapping[str, Array] | list[Array], tensors: Mapping[str, Array]) -> None:
        """Replaces the arrays of a list or mapping, in place; an empty one takes whatever comes."""
        if not isinstance(model, MutableMapping | list):
            raise not_supported(model, "its arrays cannot be replaced", "Keep them in a list or a dict.")
        copies = {name: np.array(array) for name, array in tensors.items()}
        current = _named(model)
        if current:
            expected = {name: (array.shape, array.dtype) for name, array in current.items()}
            check_fit(tensors, expected, model=type(model).__name__)
            copies = {name: copies[name] for name in current}
        if isinstance(model, list):
            model[:] = copies.values()
        else:
            model.update(copies)

    def read_file(self, path: Path) -> Tensors:
        """The tensors of a safetensors or npz file."""
        return read_tensors(path)


def positional_names(count: int) -> list[str]:
    """Names of `count` arrays that have only a position: "0", "1", …, zero-padded to the same width."""
    width = len(str(max(count - 1, 0)))
    return [f"{position:0{width}d}" for position in range(count)]


def _named(model: object) -> dict[str, Array]:
    if isinstance(model, Mapping):
        arrays = {name: np.asarray(array) for name, array in model.items()}
    elif isinstance(model, list | tuple):
        names = positional_names(len(model))
        arrays = {name: np.asarray(array) for name, array in zip(names, model, strict=True)}
    else:
        raise not_supported(
            model, "it is neither a list nor a mapping of arrays", "Choose the helper of its framework."
        )
    for name, array in arrays.items():
        if not isinstance(name, str) or array.dtype not in DTYPES.values():
            raise not_supported(model, f"entry {name!r} of dtype {array.dtype} is not a named array of numbers")
    return arrays
