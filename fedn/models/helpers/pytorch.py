"""PyTorch modules: the tensors of `state_dict`, with buffers such as BatchNorm's running statistics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedn.models.files import read_tensors
from fedn.models.helpers.base import check_fit, not_supported
from fedn.models.wire import DTYPES, DType, Tensors
from fedn.protocol.errors import InvalidInput

_DTYPES: dict[torch.dtype, DType] = {
    torch.bool: DTYPES["BOOL"],
    torch.int8: DTYPES["I8"],
    torch.int16: DTYPES["I16"],
    torch.int32: DTYPES["I32"],
    torch.int64: DTYPES["I64"],
    torch.uint8: DTYPES["U8"],
    torch.uint16: DTYPES["U16"],
    torch.uint32: DTYPES["U32"],
    torch.uint64: DTYPES["U64"],
    torch.float16: DTYPES["F16"],
    torch.bfloat16: DTYPES["BF16"],
    torch.float32: DTYPES["F32"],
    torch.float64: DTYPES["F64"],
}


class PytorchHelper:
    """`torch.nn.Module`, by the names of its `state_dict`.

    Tensors that the module shares under several names (tied weights) come under each of them and stay one tensor.
    """

    name = "pytorch"

    def get_weights(self, model: torch.nn.Module) -> Tensors:
        """Copies of all parameters and persistent buffers, from whatever device they are on."""
        return {name: _to_numpy(tensor) for name, tensor in _state(model).items()}

    def set_weights(self, model: torch.nn.Module, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Copies the tensors into the module's own, which stay on their device."""
        state = _state(model)
        expected = {name: (tuple(tensor.shape), _DTYPES[tensor.dtype]) for name, tensor in state.items()}
        check_fit(tensors, expected, model=type(model).__name__)
        _check_ties(model, state, tensors)
        model.load_state_dict({name: _to_torch(tensors[name]) for name in state}, strict=True)

    def read_file(self, path: Path) -> Tensors:
        """The tensors of a safetensors or npz file. What `torch.save` writes is a pickle, and refused."""
        return read_tensors(path)


def _state(model: object) -> dict[str, torch.Tensor]:
    if not isinstance(model, torch.nn.Module):
        raise not_supported(model, "it is not a torch.nn.Module", "Give the module, not its state.")
    state = dict(model.state_dict())
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise not_supported(model, f"entry {name!r} of its state_dict is no tensor", "Keep such state out of it.")
        if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
            raise not_supported(model, f"{name!r} has no shape yet", "Run one batch through the lazy module before.")
        if tensor.layout != torch.strided or tensor.dtype not in _DTYPES or tensor.is_meta:
            kind = "on the meta device" if tensor.is_meta else f"a {tensor.layout} tensor of {tensor.dtype}"
            raise not_supported(model, f"{name!r} is {kind}", "Use dense tensors of numbers.")
    return state


def _to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    own = tensor.detach().to("cpu", copy=True).contiguous()
    bits = own.view(torch.int16) if own.dtype == torch.bfloat16 else own  # NumPy itself knows no bfloat16
    array: np.ndarray[Any, Any] = bits.numpy()
    return array.view(_DTYPES[tensor.dtype])


def _to_torch(array: np.ndarray[Any, Any]) -> torch.Tensor:
    own = np.array(array)
    if own.dtype == DTYPES["BF16"]:
        return torch.from_numpy(own.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(own)


def _check_ties(model: object, state: Mapping[str, torch.Tensor], tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Names of one and the same tensor must bring the same values, or the last one would win silently."""
    first: dict[tuple[Any, ...], str] = {}
    faults = []
    for name, tensor in state.items():
        if tensor.numel() == 0:
            continue
        place = tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        other = first.setdefault(place, name)
        if other != name and tensors[name].tobytes() != tensors[other].tobytes():
            faults.append(f"{other!r} and {name!r}")
    if faults:
        raise InvalidInput(
            "weights_do_not_fit",
            f"The module {type(model).__name__} shares one tensor under the names {'; '.join(faults)}, "
            "but the weights differ there",
            fix="Start from a seed model that was made from the same model definition.",
        )
