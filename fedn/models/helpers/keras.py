"""Keras 3 models: sequential, functional and subclassed ones, on any of Keras' back ends.

A tensor's name is that of its variable after those of the layers that it is in, e.g. `encoder/dense_1/kernel`. It is
the same in every process that builds the same definition: Keras numbers layers by how many the process has made so far,
so a number at the end of a layer's name is replaced by the order among the layers of that name in the same layer.
(`variable.path` also depends on whether a layer was built on its own, within another, or from a file.)

Left out is what Keras does not call a weight: the state of seed generators (each client draws its own randomness) and
of metrics and optimizers.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fedn.models.files import read_tensors
from fedn.models.helpers.base import check_fit, not_supported
from fedn.models.wire import DTYPES, DType, Tensors
from fedn.protocol.errors import InvalidInput

_BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in DTYPES.values()}
_NUMBER = re.compile(r"_\d+$")


class KerasHelper:
    """`keras.Model`, by the names of its layers and weights."""

    name = "keras"

    def get_weights(self, model: keras.Model) -> Tensors:
        """Copies of all weights, trainable and not, in Keras' order."""
        return {
            name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables_by_name(model).items()
        }

    def set_weights(self, model: keras.Model, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Assigns the tensors to the model's variables."""
        variables = variables_by_name(model)
        expected = {name: (tuple(variable.shape), _dtype(variable)) for name, variable in variables.items()}
        check_fit(tensors, expected, model=type(model).__name__)
        for name, variable in variables.items():
            variable.assign(np.array(tensors[name]))

    def read_file(self, path: Path) -> Tensors:
        """The tensors of a safetensors or npz file, or of a .keras archive (without lambdas, which are code)."""
        if path.suffix != ".keras":
            return read_tensors(path)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise InvalidInput(
                "bad_model_file",
                f"Keras cannot read the file without running code of it: {error}",
                fix="Save the weights instead: write what get_weights of the helper gives as .safetensors or .npz.",
                where={"file": path},
            ) from error
        return self.get_weights(model)


def variables_by_name(model: object) -> dict[str, Any]:
    """A model's weights, trainable and not, in Keras' order. InvalidInput (`model_not_supported`)."""
    if not isinstance(model, keras.Model):
        raise not_supported(model, "it is not a keras.Model")
    if not model.built:
        raise not_supported(model, "it has no weights yet", "Give it an Input, or call build(input_shape) before.")
    places: dict[int, str] = {}
    _place(model, "", places)
    paths = [places[id(variable)] for variable in model.weights]
    named = dict(zip(_stable_names(paths), model.weights, strict=True))
    for name, variable in named.items():
        if keras.backend.standardize_dtype(variable.dtype) not in _BY_NAME:
            raise not_supported(model, f"{name!r} has dtype {variable.dtype}, and models hold only {', '.join(DTYPES)}")
    return named


def _place(layer: Any, prefix: str, places: dict[int, str]) -> None:
    """Fills in the path of each weight of a layer, by its id: inner layers first, so that what is left is its own."""
    for inner in layer._flatten_layers(recursive=False, include_self=False):
        _place(inner, f"{prefix}{inner.name}/", places)
    for variable in layer.weights:
        places.setdefault(id(variable), f"{prefix}{variable.name}")


def _dtype(variable: Any) -> DType:
    return _BY_NAME[keras.backend.standardize_dtype(variable.dtype)]


def _stable_names(paths: list[str]) -> list[str]:
    """Unique names that depend only on the order and the words of the paths, not on the layers' running numbers."""
    renamed: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    names = []
    for path in paths:
        *layers, leaf = path.split("/")
        parent = ""
        for layer in layers:
            if (parent, layer) not in renamed:
                renamed[parent, layer] = _free(f"{parent}{_NUMBER.sub('', layer)}", taken)
            parent = f"{renamed[parent, layer]}/"
        names.append(_free(f"{parent}{leaf}", taken))
    return names


def _free(name: str, taken: set[str]) -> str:
    """The first of name, name_1, name_2, … that is not taken; takes it."""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate
