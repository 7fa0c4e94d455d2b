"""The way through a chain: named tensors become a payload.

Works tensor by tensor and piece by piece: beside the payload itself it needs a few pieces of scratch, with `topk` 4
bytes a value of the largest tensor, with error feedback what the caller keeps of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedn.models.codecs.base import (
    FLOATING,
    PIECE,
    Flat,
    Source,
    SparseSource,
    Stored,
    StoredSource,
    pieces,
)
from fedn.models.codecs.chain import Chain, CodedTensor, Encoding
from fedn.models.wire import DTYPES, view

Start = Mapping[str, Flat | Source]
"""The values of the model that differences are taken to, of its floating-point tensors at least: flat arrays, or
sources where they have to be worked out."""


@dataclass(frozen=True)
class Feedback:
    """What the sender's last update left out, and where what this one leaves out goes.

    One vector over the coded tensors, in the order of `Encoding.coded`.
    """

    before: Flat | None
    """(n,) float32, None where there is nothing; stays as it is."""
    after: Flat
    """(n,) float32; of no meaning where `encode` raises."""


def encode(
    encoding: Encoding,
    tensors: Mapping[str, np.ndarray[Any, Any] | Stored],
    *,
    start: Start | None = None,
    feedback: Feedback | None = None,
    room: Callable[[int], bytearray | memoryview] = bytearray,
) -> bytes | bytearray | memoryview:
    """The payload of a model, or of an update.

    Args:
        tensors: with the names, shapes and dtypes of the encoding's base; arrays, or what stands for flat ones.
        start: where differences to it are to be stored instead of the tensors.
        feedback: for a chain with error feedback; `after` then holds what this payload leaves out.
        room: gives room for so many bytes, whatever they are; what it gave is returned, unless the chain packs it.

    Raises:
        InvalidInput: (`values_out_of_range`) a codec cannot store a value.
    """
    chain = encoding.chain
    buffer = bytearray(encoding.spec.size_bytes) if chain.bytes is not None else room(encoding.spec.size_bytes)
    buffer[: len(encoding.header)] = encoding.header
    stored = {info.name: view(buffer, info).reshape(-1) for info in encoding.spec.tensors}
    position = 0
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is looked for by codecs and servers
        for tensor in encoding.base.tensors:
            given = tensors[tensor.name]
            values = np.ascontiguousarray(given).reshape(-1) if isinstance(given, np.ndarray) else given
            source: Source = StoredSource(values)
            if start is not None and tensor.dtype in FLOATING:
                source = _DifferenceSource(values, start[tensor.name], double=tensor.dtype == DTYPES["F64"])
            one = encoding.coded.get(tensor.name)
            if one is None:
                _copy(source, stored[tensor.name])
            elif feedback is None:
                _store(chain, one, source, stored)
            else:
                left = slice(position, position + tensor.size)
                _store_with_feedback(chain, one, source, stored, feedback, left)
                position += tensor.size
    return chain.bytes.compress(buffer) if chain.bytes is not None else buffer


def stored_source(chain: Chain, one: CodedTensor, values: Stored, parts: Mapping[str, Flat]) -> Source:
    """The values of a coded tensor.

    Args:
        values: what is stored under the tensor's name.
        parts: what is stored beside it, by name; the codecs' checks have passed.
    """
    numbers: Source = StoredSource(values)
    if one.casts and chain.numbers is not None:
        numbers = chain.numbers.source(values, {part.suffix: parts[name] for name, part in one.numbers_parts})
    if one.kept is None or chain.selection is None:
        return numbers
    places = {part.suffix: parts[name] for name, part in one.selection_parts}
    return chain.selection.source(one.tensor.size, places, numbers)


class _DifferenceSource:
    """values - base, in float32, or in float64 where the values are and the base is at hand in it."""

    def __init__(self, values: Stored, base: Flat | Source, *, double: bool) -> None:
        self._values = StoredSource(values)
        self._base = StoredSource(base) if isinstance(base, np.ndarray) else base
        dtype = np.float64 if double and isinstance(base, np.ndarray) else np.float32
        self._scratch = np.empty((2, min(PIECE, len(values))), dtype)

    def read(self, start: int, stop: int, out: Flat) -> None:
        base = self._scratch[0, : stop - start]
        value = out if out.dtype == base.dtype else self._scratch[1, : stop - start]
        self._values.read(start, stop, value)
        self._base.read(start, stop, base)
        np.subtract(value, base, out=value)
        if value is not out:
            np.copyto(out, value, casting="unsafe")


def _copy(source: Source, out: Flat) -> None:
    for start, stop in pieces(len(out)):
        source.read(start, stop, out[start:stop])


def _store(chain: Chain, one: CodedTensor, source: Source, stored: Mapping[str, Flat]) -> None:
    if one.kept is not None and chain.selection is not None:
        parts = {part.suffix: stored[name] for name, part in one.selection_parts}
        source = StoredSource(chain.selection.select(source, one.tensor.size, parts))
    if one.casts and chain.numbers is not None:
        parts = {part.suffix: stored[name] for name, part in one.numbers_parts}
        chain.numbers.encode(source, stored[one.tensor.name], parts)
    else:
        _copy(source, stored[one.tensor.name])


def _store_with_feedback(
    chain: Chain, one: CodedTensor, source: Source, stored: Mapping[str, Flat], feedback: Feedback, where: slice
) -> None:
    """Stores the values and what was left out before; leaves what is left out now (Karimireddy et al. 2019, Alg. 1)."""
    left = feedback.after[where]
    before = feedback.before[where] if feedback.before is not None else None
    for start, stop in pieces(len(left)):
        piece = left[start:stop]
        source.read(start, stop, piece)
        if before is not None:
            np.add(piece, before[start:stop], out=piece)
    _store(chain, one, StoredSource(left), stored)
    sent = stored_source(chain, one, stored[one.tensor.name], stored)
    scratch = np.empty(min(PIECE, len(left)), np.float32)
    for start, stop in pieces(len(left)):
        piece = left[start:stop]
        if isinstance(sent, SparseSource):
            positions, values = sent.nonzero(start, stop)
            piece[positions] -= values
        else:
            sent.read(start, stop, scratch[: len(piece)])
            np.subtract(piece, scratch[: len(piece)], out=piece)
