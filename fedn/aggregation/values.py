"""Values of an update or a model, one range of one tensor at a time, whatever it went through on its way."""

from typing import Protocol

import numpy as np

from fedn.aggregation.numerics import is_floating
from fedn.models.codecs.base import PIECE, Flat
from fedn.models.codecs.payload import Payload, PiecedValues
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, header_size, read_spec


class UpdateValues(Protocol):
    """Elements by the name of their tensor."""

    def read(self, tensor: str, start: int, stop: int) -> Flat:
        """Elements [start, stop) of a tensor, PIECE at the most, of any dtype of models; good until the next call."""


class PlainValues:
    """Of safetensors bytes."""

    def __init__(self, data: Buffer | Pieces, spec: ModelSpec) -> None:
        self._data = data if isinstance(data, Pieces) else Pieces.of(data)
        self._spec = spec

    @classmethod
    def whole(cls, data: Buffer | Pieces) -> "PlainValues":
        """Of a model that describes itself. InvalidInput (`bad_model`)."""
        pieces = data if isinstance(data, Pieces) else Pieces.of(data)
        return cls(pieces, read_spec(pieces.copy(0, header_size(pieces.copy(0, 8)) or 0), len(pieces)))

    def read(self, tensor: str, start: int, stop: int) -> Flat:
        return PiecedValues(self._data, self._spec.by_name[tensor])[start:stop]


class PayloadValues:
    """Of an update that went through a chain of codecs."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._stored = PlainValues(payload.data, payload.spec)
        self._room = np.empty(PIECE, np.float32)

    def read(self, tensor: str, start: int, stop: int) -> Flat:
        source = self._payload.sources.get(tensor)
        if source is None:
            return self._stored.read(tensor, start, stop)
        source.read(start, stop, self._room[: stop - start])
        return self._room[: stop - start]


def squared_norm(update: UpdateValues, base: ModelSpec, start: UpdateValues | None) -> float:
    """‖update − start‖² over all floating-point tensors of the base, in float64; infinite where it is too large.

    Args:
        start: None where the update is a difference already.
    """
    total = 0.0
    with np.errstate(over="ignore"):
        for tensor in base.tensors:
            if not is_floating(tensor.dtype):
                continue
            for at in range(0, tensor.size, PIECE):
                stop = min(at + PIECE, tensor.size)
                values = update.read(tensor.name, at, stop).astype(np.float64)
                if start is not None:
                    values -= start.read(tensor.name, at, stop).astype(np.float64)
                # Not a dot product: its threads cost more than they save where others need the processors.
                total += float(np.square(values, out=values).sum())
    return total
