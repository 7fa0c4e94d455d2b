"""Models as bytes: a strict reader and writer of the safetensors format, without copies.

The bytes are: 8 bytes of header length (little endian), the header (a JSON object from names to dtype, shape and byte
span), the tensors. The reader trusts nothing: what it accepts can be viewed safely, and every byte has one meaning.

Not here: files and other formats (fedn.models.files).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, NoReturn, TypeVar

import ml_dtypes
import numpy as np

from fedn.models.digest import Buffer
from fedn.protocol.errors import InvalidInput

Tensors = dict[str, np.ndarray[Any, Any]]
DType = np.dtype[Any]

DTYPES: dict[str, DType] = {
    "BOOL": np.dtype(np.bool_),
    "I8": np.dtype("<i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("<u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
"""The dtypes of models, by their names in the format."""

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_ALIGNMENT = 64
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_MAX_DIMENSIONS = 32
_MAX_BYTES = 2**63 - 1
_REMEMBERED_HEADER_BYTES = 1_000_000
_REMEMBERED_TENSORS = 10_000

MAX_HEADER_BYTES = 100_000_000
"""Headers larger than this are refused."""


class TensorInfo(NamedTuple):
    """One tensor of a buffer. `start` and `stop` are byte offsets from the buffer's beginning."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return (self.stop - self.start) // self.dtype.itemsize


@dataclass(frozen=True)
class ModelSpec:
    """What a model's bytes hold: everything but the numbers."""

    tensors: tuple[TensorInfo, ...]
    """In the header's order."""
    size_bytes: int
    """Of the whole buffer: length field, header and data."""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.tensors)

    @cached_property
    def num_parameters(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def by_name(self) -> dict[str, TensorInfo]:
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def stored_order(self) -> tuple[TensorInfo, ...]:
        """The tensors as they follow each other in the buffer."""
        return tuple(sorted(self.tensors, key=lambda tensor: (tensor.start, tensor.stop)))


def encode(tensors: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str] | None = None) -> bytearray:
    """The canonical bytes of named tensors: equal mappings (names in the same order) give equal bytes.

    Header keys stand in the mapping's order, data by item size, largest first, so that every tensor is aligned; the
    data starts at a multiple of 64 bytes.

    Raises:
        InvalidInput: (`bad_model`) a name or a dtype that the format cannot hold.
    """
    return encode_into(tensors, bytearray, metadata)


BufferT = TypeVar("BufferT", bytearray, memoryview)


def encode_into(
    tensors: Mapping[str, np.ndarray[Any, Any]],
    allocate: Callable[[int], BufferT],
    metadata: Mapping[str, str] | None = None,
) -> BufferT:
    """The bytes of `encode`, in a buffer that the caller provides; every byte of it is written.

    Args:
        allocate: gives a writable buffer of so many bytes; is called once, when all is known to be right.

    Raises:
        InvalidInput: as `encode`.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    header, spec = layout(((name, array.dtype, array.shape) for name, array in arrays.items()), metadata)
    buffer = allocate(spec.size_bytes)
    buffer[: len(header)] = header
    for tensor, array in zip(spec.tensors, arrays.values(), strict=True):
        view(buffer, tensor)[...] = array
    return buffer


def allocate(
    entries: Iterable[tuple[str, DType, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytearray, ModelSpec]:
    """A canonical buffer with its header written and its data zero, to be filled through `view`; see `layout`."""
    header, spec = layout(entries, metadata)
    buffer = bytearray(spec.size_bytes)
    buffer[: len(header)] = header
    return buffer, spec


def layout(
    entries: Iterable[tuple[str, DType, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, ModelSpec]:
    """The canonical header (with its length field) and what it describes.

    Args:
        entries: (name, dtype, shape) of each tensor; big-endian dtypes become little-endian ones.

    Raises:
        InvalidInput: (`bad_model`) a name or a dtype that the format cannot hold, or a name that comes twice.
    """
    key = tuple((name, dtype, tuple(shape)) for name, dtype, shape in entries)
    if metadata or len(key) > _REMEMBERED_TENSORS:
        return _make_layout(key, metadata)
    return _make_layout_again(key)


def _make_layout(
    entries: tuple[tuple[str, DType, tuple[int, ...]], ...], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, ModelSpec]:
    wanted = [(name, _storable(name, dtype), shape) for name, dtype, shape in entries]
    spans: list[tuple[int, int]] = [(0, 0)] * len(wanted)
    position = 0
    for index in sorted(range(len(wanted)), key=lambda index: -wanted[index][1].itemsize):
        _, dtype, shape = wanted[index]
        spans[index] = position, position + math.prod(shape) * dtype.itemsize
        position = spans[index][1]

    sorted_metadata = dict(sorted((metadata or {}).items()))
    fields: dict[str, Any] = {_METADATA: sorted_metadata} if sorted_metadata else {}
    for (name, dtype, shape), span in zip(wanted, spans, strict=True):
        if name in fields:
            _refuse(f"two tensors have the name {name!r}", tensor=name)
        fields[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": span}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % _ALIGNMENT)
    data_start = _LENGTH_BYTES + len(text)
    infos = tuple(
        TensorInfo(name, dtype, shape, data_start + start, data_start + stop)
        for (name, dtype, shape), (start, stop) in zip(wanted, spans, strict=True)
    )
    header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return header, ModelSpec(infos, data_start + position, sorted_metadata)


# A client makes the same model in every round.
_make_layout_again = lru_cache(maxsize=8)(_make_layout)


def header_size(prefix: Buffer) -> int | None:
    """Bytes of length field and header together, once the first 8 bytes are there; None before.

    Raises:
        InvalidInput: (`bad_model`) the header is larger than MAX_HEADER_BYTES.
    """
    if len(prefix) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(memoryview(prefix)[:_LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        _refuse(f"its header claims {length} bytes, and at most {MAX_HEADER_BYTES} are allowed")
    return _LENGTH_BYTES + length


def read_spec(buffer: Buffer, size_bytes: int | None = None) -> ModelSpec:
    """What a model's bytes hold.

    Args:
        buffer: the model, or a beginning of it that holds the whole header.
        size_bytes: size of the whole model where `buffer` is only its beginning.

    Raises:
        InvalidInput: (`bad_model`) the bytes are not a model of which every byte has one meaning.
    """
    size_bytes = len(buffer) if size_bytes is None else size_bytes
    data_start = header_size(buffer)
    if data_start is None or data_start > min(size_bytes, len(buffer)):
        _refuse(f"its {min(size_bytes, len(buffer))} bytes end before its header does")
    text = bytes(memoryview(buffer)[_LENGTH_BYTES:data_start])
    return (
        _read_header_again(text, size_bytes)
        if len(text) <= _REMEMBERED_HEADER_BYTES
        else _read_header(text, size_bytes)
    )


def decode(buffer: Buffer) -> Tensors:
    """The tensors of a model, in the header's order, as read-only views of `buffer`: nothing is copied.

    Raises:
        InvalidInput: (`bad_model`) as `read_spec`.
    """
    frozen = memoryview(buffer).toreadonly()
    return {tensor.name: view(frozen, tensor) for tensor in read_spec(buffer).tensors}


def view(buffer: Buffer, tensor: TensorInfo) -> np.ndarray[Any, Any]:
    """One tensor of `buffer`, in place; writable where the buffer is."""
    flat = np.frombuffer(buffer, tensor.dtype, tensor.size, tensor.start) if tensor.size else np.empty(0, tensor.dtype)
    return flat.reshape(tensor.shape)


def differences(spec: ModelSpec, base: ModelSpec) -> list[str]:
    """Why `spec` does not fit `base`, one sentence a fault; empty where names, shapes and dtypes are the same."""
    faults = [f"tensor {name!r} is missing" for name in base.by_name if name not in spec.by_name]
    for tensor in spec.tensors:
        expected = base.by_name.get(tensor.name)
        if expected is None:
            faults.append(f"tensor {tensor.name!r} is not in the base model")
            continue
        if tensor.shape != expected.shape:
            faults.append(f"tensor {tensor.name!r} has shape {tensor.shape} instead of {expected.shape}")
        if tensor.dtype != expected.dtype:
            faults.append(f"tensor {tensor.name!r} has dtype {tensor.dtype} instead of {expected.dtype}")
    return faults


def _refuse(fault: str, **where: object) -> NoReturn:
    raise InvalidInput(
        "bad_model",
        f"The bytes are not a valid safetensors model: {fault}",
        fix="Write the model with fedn or with the safetensors library.",
        where=where,
    )


def _storable(name: str, dtype: DType) -> DType:
    """The little-endian dtype that the tensor is stored in."""
    if not name.isascii() and not _is_unicode(name):
        _refuse(f"the name {name!r} is not valid Unicode", tensor=name.encode("ascii", "backslashreplace").decode())
    if name == _METADATA:
        _refuse(f"the name {_METADATA} is reserved by the format", tensor=name)
    little = dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype
    if little not in _CODES:
        _refuse(f"tensor {name!r} has dtype {dtype}, and models hold only {', '.join(DTYPES)}", tensor=name)
    return little


def _is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates, which UTF-8 cannot hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read_header(text: bytes, size_bytes: int) -> ModelSpec:
    """The spec of a model of `size_bytes` with this header."""
    data_start = _LENGTH_BYTES + len(text)
    header = _parse_header(text)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(f"{_METADATA} is not an object of strings")
    tensors = tuple(_read_entry(name, entry, data_start) for name, entry in header.items())
    spec = ModelSpec(tensors, size_bytes, metadata)

    position = data_start
    for tensor in spec.stored_order:
        if tensor.start != position:
            fault = "leaves a hole" if tensor.start > position else "overlaps another tensor"
            _refuse(
                f"tensor {tensor.name!r} {fault} at byte {tensor.start - data_start} of the data", tensor=tensor.name
            )
        position = tensor.stop
    if position != size_bytes:
        _refuse(f"its tensors end at byte {position}, but it has {size_bytes} bytes")
    return spec


# All updates of a round have the header of their base model: it is parsed once, not once an update.
_read_header_again = lru_cache(maxsize=8)(_read_header)


def _parse_header(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                _refuse(f"its header has the key {key!r} twice")
            found[key] = value
        return found

    if not text.startswith(b"{"):
        _refuse("its header is not a JSON object")
    try:
        header: dict[str, Any] = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "bad_model",
            f"The bytes are not a valid safetensors model: its header is not JSON ({str(error)[:200]})",
            fix="Write the model with fedn or with the safetensors library.",
        ) from error
    return header


def _read_entry(name: str, entry: object, data_start: int) -> TensorInfo:
    if not _is_unicode(name):
        _refuse(f"the name {name!r} is not valid Unicode")
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        _refuse(f"tensor {name!r} must have exactly dtype, shape and data_offsets", tensor=name)
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        _refuse(f"tensor {name!r} has the unknown dtype {str(code)[:40]!r}; known are {', '.join(DTYPES)}", tensor=name)
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        _refuse(f"the shape of tensor {name!r} is not a list of at most {_MAX_DIMENSIONS} sizes", tensor=name)
    if math.prod(size for size in shape if size) * dtype.itemsize > _MAX_BYTES:
        _refuse(f"the shape of tensor {name!r} is too large", tensor=name)
    if not _are_sizes(offsets) or len(offsets) != 2:
        _refuse(f"the data_offsets of tensor {name!r} are not two byte positions", tensor=name)
    start, stop = offsets
    if stop - start != math.prod(shape) * dtype.itemsize:
        _refuse(
            f"tensor {name!r} of shape {tuple(shape)} and dtype {code} does not fill its {stop - start} bytes",
            tensor=name,
        )
    return TensorInfo(name, dtype, tuple(shape), data_start + start, data_start + stop)


def _are_sizes(values: object) -> bool:
    """Whether it is a list of integers from 0 to what a signed 64-bit integer holds."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _MAX_BYTES for value in values)
