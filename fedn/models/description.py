"""A model's tensors as text: what stands in the metadata of bytes that stand for the model."""

import json
from collections.abc import Iterable
from typing import Any

from fedn.models.wire import DTYPES, DType, TensorInfo
from fedn.protocol.errors import InvalidInput

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_MAX_DIMENSIONS = 32


def describe(tensors: Iterable[TensorInfo]) -> str:
    """A JSON object from the names of the tensors to [dtype, shape], in their order."""
    described = {tensor.name: [_CODES[tensor.dtype], list(tensor.shape)] for tensor in tensors}
    return json.dumps(described, ensure_ascii=False, separators=(",", ":"))


def described(text: str, key: str) -> list[tuple[str, DType, tuple[int, ...]]]:
    """(name, dtype, shape) of the tensors that such a text describes.

    Args:
        key: of the metadata where the text stands.

    Raises:
        InvalidInput: (`bad_model`) it describes none.
    """
    try:
        tensors = json.loads(text)
        return [(name, DTYPES[code], _shape(shape)) for name, (code, shape) in tensors.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            "bad_model",
            f"The header's {key} does not describe a model's tensors",
            fix="Encode with fedn, or as docs/reference/wire-protocol.md says.",
        ) from error


def _shape(sizes: Any) -> tuple[int, ...]:
    if len(sizes) > _MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 1 << 48 for size in sizes):
        raise ValueError(f"{sizes} is no shape")
    return tuple(sizes)
