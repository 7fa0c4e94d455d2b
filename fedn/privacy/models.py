"""Whole models encrypted and decrypted, ciphertext by ciphertext.

Values are encrypted as real numbers. Integers are divided by 2^18 first, so that they may be 2^18 times as large as
other values, and are rounded to the nearest when they come back: their mean is that of FedAvg, unless it lies so close
to the middle of two integers that the noise decides. Bools are 0 and 1; a mean within a thousandth of a half is true.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from fedn.aggregation.numerics import is_floating, store_mean
from fedn.models.codecs.base import Flat
from fedn.models.digest import Buffer
from fedn.models.encrypted import (
    POLYNOMIALS,
    RINGS,
    WEIGHT,
    EncryptedLayout,
    Parameters,
    encrypted_layout,
    read_encrypted,
)
from fedn.models.planes import Integers, join, split
from fedn.models.wire import DTYPES, DType, ModelSpec, TensorInfo, Tensors, layout, read_spec, view
from fedn.privacy.keys import Key
from fedn.privacy.tenseal import Context, Values
from fedn.protocol.errors import InvalidInput

INTEGER_BITS = 18
_HALF = 1e-3
_MORE = 1.001
"""A mean of values up to a bound may be so much above it by the noise."""
_BOOL = DTYPES["BOOL"]
_PIECE = 1 << 15

Room = Callable[[int], bytearray | memoryview]
"""Gives room for so many bytes, all of which are written."""


class ModelCipher:
    """Encrypts and decrypts models with one key. For one thread at a time."""

    def __init__(self, key: Key) -> None:
        self.key_id = key.key_id
        self._degree = key.degree
        self._context: Context = key.open()

    @property
    def alone(self) -> Parameters:
        """For what is never added up: seeds and predictions."""
        ring = RINGS[self._degree]
        return Parameters(self.key_id, self._degree, ring.modulus.bit_length() - 2 - ring.alone_max_bits)

    def encrypt(
        self,
        tensors: Tensors,
        parameters: Parameters,
        *,
        weight: float = 1.0,
        max_value: float | None = None,
        room: Room = bytearray,
    ) -> bytearray | memoryview:
        """weight · tensors, encrypted.

        Args:
            tensors: in the order that the model's layout has.
            parameters: of this key.
            max_value: weight · max_value · 2^scale_bits · √2 is below half of the modulus; None: of what is alone.

        Raises:
            InvalidInput: (`key_does_not_fit`) the parameters are of another key; (`value_too_large`) a value is not
                finite, or above max_value.
        """
        self._check(parameters)
        found = encrypted_layout(((name, array.dtype, array.shape) for name, array in tensors.items()), parameters)
        buffer = room(found.spec.size_bytes)
        buffer[: len(found.header)] = found.header
        view(buffer, found.spec.by_name[WEIGHT])[0] = weight
        largest = 2.0 ** RINGS[self._degree].alone_max_bits if max_value is None else max_value
        stored = [(plane, view(buffer, info)) for plane, info in found.planes_in(found.spec)]
        for number, values in enumerate(_packed(tensors, parameters.in_ciphertext, largest)):
            coefficients = self._context.encrypt(values * weight, parameters.scale_bits)
            for plane, part in stored:
                part[number] = split(coefficients, plane).reshape(POLYNOMIALS, -1)
        return buffer

    def decrypt(self, data: Buffer, *, max_value: float = math.inf, room: Room = bytearray) -> bytearray | memoryview:
        """The model that encrypted bytes stand for, in canonical bytes: the sum of values divided by the weight.

        Args:
            max_value: of the model; larger values are a sign that somebody added what is no ciphertext of this key.

        Raises:
            InvalidInput: (`bad_encrypted_model`, `bad_model`) the bytes are none, or have numbers that cannot be;
                (`key_does_not_fit`) they are encrypted with another key.
        """
        spec = read_spec(data)
        found = read_encrypted(spec)
        self._check(found.parameters)
        weight = float(view(data, spec.by_name[WEIGHT])[0])
        if not (np.isfinite(weight) and weight > 0):
            raise _damaged(f"its weight is {weight}")
        header, plain = layout((tensor.name, tensor.dtype, tensor.shape) for tensor in found.plain.tensors)
        buffer = room(plain.size_bytes)
        buffer[: len(header)] = header
        _unpack(self._values(data, spec, found, weight, max_value), found, plain, buffer)
        return buffer

    def _values(
        self, data: Buffer, spec: ModelSpec, found: EncryptedLayout, weight: float, max_value: float
    ) -> Iterator[Values]:
        """The values of each ciphertext, divided by the weight."""
        left = found.plain.num_parameters
        for coefficients in _ciphertexts(data, spec, found):
            if int(coefficients.max()) >= found.parameters.modulus:
                raise _damaged("its coefficients are not below the modulus")
            count = min(left, found.parameters.in_ciphertext)
            values = self._context.decrypt(coefficients, found.parameters.scale_bits, count) / weight
            if not (np.abs(values) <= max_value * _MORE).all():
                raise _damaged(f"it has values above {max_value:g}, which no client encrypts")
            left -= count
            yield values

    def _check(self, parameters: Parameters) -> None:
        if (parameters.key_id, parameters.degree) != (self.key_id, self._degree):
            raise InvalidInput(
                "key_does_not_fit",
                f"the key here is {self.key_id}, and {parameters.key_id} is needed",
                fix="Name the file of the key that the model or the plan names.",
            )


def tensors_of(buffer: Buffer, order: ModelSpec) -> Tensors:
    """The tensors of a model's bytes, in the order of another one's."""
    spec = read_spec(buffer)
    return {name: view(buffer, spec.by_name[name]) for name in order.names}


def _ciphertexts(data: Buffer, spec: ModelSpec, found: EncryptedLayout) -> Iterator[Integers]:
    """The coefficients of each."""
    stored = [(plane, view(data, info)) for plane, info in found.planes_in(spec)]
    planes = [plane for plane, _ in stored]
    for number in range(found.count):
        coefficients = np.empty(POLYNOMIALS * found.parameters.degree, np.uint64)
        join([part[number].reshape(-1) for _, part in stored], planes, coefficients)
        yield coefficients


def _packed(tensors: Tensors, size: int, max_value: float) -> Iterator[Values]:
    """All values, one tensor behind the other, as many at once as a ciphertext holds; the last part may be shorter."""
    room = np.empty(size, np.float64)
    filled = 0
    for name, array in tensors.items():
        flat = np.ascontiguousarray(array).reshape(-1)
        at = 0
        while at < len(flat):
            taken = flat[at : at + size - filled]
            part = room[filled : filled + len(taken)]
            part[:] = taken
            if not (is_floating(array.dtype) or array.dtype == _BOOL):
                part /= 2.0**INTEGER_BITS
            if not (np.abs(part) <= max_value).all():
                raise _too_large(name, array.dtype, max_value)
            at += len(taken)
            filled += len(taken)
            if filled == size:
                yield room
                filled = 0
    if filled:
        yield room[:filled]


def _unpack(parts: Iterator[Values], found: EncryptedLayout, plain: ModelSpec, buffer: bytearray | memoryview) -> None:
    """Stores values, which come as `_packed` gave them, in the dtypes of the model."""
    part, used = np.empty(0), 0
    scratch = np.empty(_PIECE, np.float64)
    for tensor in found.plain.tensors:
        out = view(buffer, plain.by_name[tensor.name]).reshape(-1)
        at = 0
        while at < tensor.size:
            if used == len(part):
                part, used = next(parts), 0
            values = part[used : used + min(tensor.size - at, _PIECE)]
            _store(values, tensor, out[at : at + len(values)], scratch)
            at += len(values)
            used += len(values)


def _store(values: Values, tensor: TensorInfo, out: Flat, scratch: Values) -> None:
    if tensor.dtype == _BOOL:
        values = values + _HALF
    elif not is_floating(tensor.dtype):
        values = values * 2.0**INTEGER_BITS
    try:
        store_mean(values, 1.0, out, scratch)
    except InvalidInput as error:
        raise _damaged(f"tensor {tensor.name!r} has values that {tensor.dtype} cannot hold") from error


def _too_large(name: str, dtype: DType, max_value: float) -> InvalidInput:
    most = max_value if is_floating(dtype) else max_value * 2.0**INTEGER_BITS
    return InvalidInput(
        "value_too_large",
        f"tensor {name!r} has values above {most:g}, or that are no numbers, and sums of such could not be decrypted",
        fix="Look at the training: it may have diverged. Else raise max_value in the options of the rule secagg; for "
        "what is encrypted alone (seeds, predictions) make a key of a larger degree.",
        where={"tensor": name},
    )


def _damaged(why: str) -> InvalidInput:
    return InvalidInput(
        "bad_encrypted_model",
        f"the encrypted model is damaged, or was made by adding too much: {why}",
        fix="Decrypt an earlier model of the trail: fedn model list.",
    )
