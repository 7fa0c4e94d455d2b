"""What a helper is, and how tensors are compared with the model that they are to go into."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedn.models.wire import DType, Tensors
from fedn.protocol.errors import InvalidInput


class Helper(Protocol):
    """Turns a framework's model into named tensors and back, without any code in the bytes between.

    `get_weights` after `set_weights` gives equal tensors, in the same order.
    """

    name: str

    def get_weights(self, model: Any) -> Tensors:
        """The model's state, as arrays that do not change when the model does.

        Raises:
            InvalidInput: (`model_not_supported`) the model's state is not, or not only, tensors that can be averaged.
        """

    def set_weights(self, model: Any, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Puts the tensors into the model, which copies them.

        Raises:
            InvalidInput: (`weights_do_not_fit`) names, shapes or dtypes are not the model's; it lists every
                difference, and the model is unchanged. (`model_not_supported`) as `get_weights`.
        """

    def read_file(self, path: Path) -> Tensors:
        """The tensors of a model file: safetensors, npz, or the framework's own format where no code is in it.

        Raises:
            InvalidInput: (`bad_model_file`, `bad_model`, `pickled_file`) the file is damaged or none of these.
        """


def check_fit(
    tensors: Mapping[str, np.ndarray[Any, Any]], expected: Mapping[str, tuple[tuple[int, ...], DType]], *, model: str
) -> None:
    """Raises InvalidInput (`weights_do_not_fit`) naming every difference.

    Args:
        expected: (shape, dtype) of each of the model's tensors.
        model: what the message calls the model.
    """
    faults = [f"tensor {name!r} is missing" for name in expected if name not in tensors]
    for name, array in tensors.items():
        if name not in expected:
            faults.append(f"the model has no tensor {name!r}")
            continue
        shape, dtype = expected[name]
        if array.shape != shape:
            faults.append(f"tensor {name!r} has shape {array.shape} instead of {shape}")
        if array.dtype != dtype:
            faults.append(f"tensor {name!r} has dtype {array.dtype} instead of {dtype}")
    if faults:
        raise InvalidInput(
            "weights_do_not_fit",
            f"The weights do not fit the model {model}: {'; '.join(faults)}",
            fix="Start from a seed model that was made from the same model definition.",
        )


def not_supported(model: object, reason: str, fix: str = "") -> InvalidInput:
    """The error `model_not_supported` for this model."""
    name = type(model).__name__
    return InvalidInput(
        "model_not_supported", f"{name} cannot be a federated model: {reason}", fix=fix, where={"class": name}
    )
