"""The state of a server optimizer as bytes: safetensors, named by their digest like models, and kept beside them.

A state belongs to one model: whoever goes on from that model, after a restart or a rollback, goes on from its state.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedn.models.codecs.base import Flat
from fedn.models.digest import Buffer
from fedn.models.wire import DType, ModelSpec, layout, read_spec

_OPTIMIZER = "fedn.optimizer"
_STEPS = "fedn.steps"

Room = np.ndarray[tuple[int], np.dtype[np.uint8]]


@dataclass(frozen=True)
class ServerState:
    """Whole, and not to be changed. `data` are the bytes, `spec` what they hold."""

    data: Buffer
    spec: ModelSpec

    @classmethod
    def read(cls, data: Buffer) -> "ServerState":
        """InvalidInput (`bad_model`) where the bytes are none."""
        return cls(data, read_spec(data))

    @property
    def steps(self) -> int:
        """Steps that were made."""
        return int(self.spec.metadata.get(_STEPS, "0"))

    def fits(self, like: "NewState") -> bool:
        """Whether the next step may go on from it: the same optimizer, slots and tensors."""
        mine, other = self.spec, like.spec
        return mine.metadata.get(_OPTIMIZER) == other.metadata[_OPTIMIZER] and {
            (one.name, one.dtype, one.shape) for one in mine.tensors
        } == {(one.name, one.dtype, one.shape) for one in other.tensors}

    def slot(self, slot: str, tensor: str, first: int, size: int) -> Flat:
        return _slot(self.data, self.spec, slot, tensor, first, size)


class NewState:
    """The state after a step, while it is being made.

    Args:
        tensors: (name, dtype, shape) of each tensor that has slots; the dtype is that of its slots.
        steps: that were made when this one is complete.
    """

    def __init__(
        self, optimizer: str, slots: Iterable[str], tensors: Iterable[tuple[str, DType, Sequence[int]]], steps: int
    ) -> None:
        kept = list(tensors)
        entries = [(_name(slot, name), dtype, shape) for slot in slots for name, dtype, shape in kept]
        header, self.spec = layout(entries, {_OPTIMIZER: optimizer, _STEPS: str(steps)})
        self._room: Room = np.empty(self.spec.size_bytes, np.uint8)
        self._room[: len(header)] = np.frombuffer(header, np.uint8)

    def slot(self, slot: str, tensor: str, first: int, size: int) -> Flat:
        """Elements [first, first + size) of a tensor's slot, to be written."""
        return _slot(self._room, self.spec, slot, tensor, first, size)

    def finished(self) -> ServerState:
        return ServerState(self._room.data, self.spec)


def _name(slot: str, tensor: str) -> str:
    return f"{slot}/{tensor}"


def _slot(data: Any, spec: ModelSpec, slot: str, tensor: str, first: int, size: int) -> Flat:
    info = spec.by_name[_name(slot, tensor)]
    return np.frombuffer(data, info.dtype, size, info.start + first * info.dtype.itemsize)
