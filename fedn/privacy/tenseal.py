"""CKKS by TenSEAL (Benaissa et al. 2021), which is Microsoft SEAL: values of one ciphertext in, coefficients out.

TenSEAL reads and writes ciphertexts in a container of its own. Here only their coefficients count: what comes from
elsewhere is checked as numbers, and put into a container that this process wrote itself, so that no foreign byte is
parsed by the library. TenSEAL knows real numbers only; the imaginary parts are reached by `fedn.privacy.imaginary`.
"""

import importlib
import struct
from typing import Any, NamedTuple

import numpy as np
import zstandard

from fedn.models.encrypted import POLYNOMIALS, RINGS
from fedn.privacy.imaginary import Coefficients, ImaginaryUnit
from fedn.protocol.errors import InvalidInput, Unavailable

Values = np.ndarray[tuple[int], np.dtype[np.float64]]

_SEAL_HEADER = struct.Struct("<HBBBBHQ")
"""magic, size of this header, version (major, minor), compression, reserved, size of all (SEAL's serialization.h)."""
_SEAL_MAGIC = 0xA15E
_PLAIN, _ZSTANDARD = 0, 2
_BYTES_FIELD, _DOUBLE_FIELD = 2, 1
"""Wire types of protobuf."""


def _tenseal() -> Any:
    try:
        return importlib.import_module("tenseal")
    except ImportError as error:
        raise Unavailable(
            "tenseal_missing",
            f"encryption needs TenSEAL, which is not installed here: {error}",
            fix="pip install 'fedn[secagg]'",
        ) from error


def new_context(degree: int) -> bytes:
    """Parameters of 128 bits of security, which SEAL checks, and a new secret key.

    Symmetric encryption: who encrypts can decrypt anyway here, and its noise is a hundredth of that of a public key.
    """
    library = _tenseal()
    made = library.context(
        library.SCHEME_TYPE.CKKS,
        degree,
        coeff_mod_bit_sizes=list(RINGS[degree].prime_bits),
        encryption_type=library.ENCRYPTION_TYPE.SYMMETRIC,
    )
    return bytes(
        made.serialize(save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False)
    )


def context_from(data: bytes, degree: int) -> "Context":
    """Of a key file of one's own. InvalidInput (`bad_key_file`), Unavailable (`tenseal_missing`)."""
    library = _tenseal()
    try:
        context = library.context_from(data)
    except (ValueError, RuntimeError) as error:
        raise InvalidInput(
            "bad_key_file", f"TenSEAL does not read the key: {error}", fix="Use the version of TenSEAL that made it."
        ) from error
    return Context(library, context, degree)


class _Container(NamedTuple):
    """What this process's SEAL writes around the coefficients of a ciphertext."""

    version: tuple[int, int, int, int]
    """The first fields of `_SEAL_HEADER`."""
    members: bytes
    """What stands before them: parameters, form, sizes, scale."""


class Context:
    """A key at work. For one thread at a time.

    Raises:
        Unavailable: (`tenseal_unknown`) this version of TenSEAL works in another way than is known here.
    """

    def __init__(self, library: Any, context: Any, degree: int) -> None:
        self._library = library
        self._context = context
        self._degree = degree
        self._modulus = np.uint64(RINGS[degree].modulus)
        self._data_bytes = POLYNOMIALS * degree * 8
        self._slots = degree // 2
        self._i = ImaginaryUnit(degree, RINGS[degree].modulus)
        self._containers: dict[int, _Container] = {}
        """By scale: what is around the coefficients."""
        self._try_out()

    def encrypt(self, values: Values, scale_bits: int) -> Coefficients:
        """The coefficients of one ciphertext: (2·degree,), below the modulus.

        Args:
            values: (at most degree,), finite; times 2^scale_bits·√2 below half of the modulus. Those that the real
                parts of the slots have no room for are in the imaginary ones.
        """
        real, imaginary = values[: self._slots], values[self._slots :]
        vector = self._library.ckks_vector(self._context, real.tolist(), scale=2.0**scale_bits)
        made = self._taken_out(vector)[1]
        if len(imaginary):
            padded = np.zeros(self._slots)
            padded[: len(imaginary)] = imaginary
            first = made[: self._degree]
            # Adding what is plain changes the first polynomial, by its encoding, and brings no noise.
            encoded = self._minus(self._taken_out(vector + padded.tolist())[1][: self._degree], first)
            np.copyto(first, self._plus(first, self._i.times(encoded)))
        return made

    def decrypt(self, coefficients: Coefficients, scale_bits: int, count: int) -> Values:
        """The first `count` values of one ciphertext.

        Args:
            coefficients: (2·degree,), below the modulus.
            count: at most degree.
        """
        real = self._real_parts(coefficients, scale_bits)
        if count <= self._slots:
            return real[:count]
        turned = np.concatenate([self._i.times(one) for one in coefficients.reshape(POLYNOMIALS, self._degree)])
        imaginary = -self._real_parts(turned, scale_bits)  # i·(a + ib) = -b + ia
        return np.concatenate([real, imaginary[: count - self._slots]])

    def _real_parts(self, coefficients: Coefficients, scale_bits: int) -> Values:
        if scale_bits not in self._containers:
            some = self._library.ckks_vector(self._context, [0.0], scale=2.0**scale_bits)
            self._containers[scale_bits] = self._taken_out(some)[0]
        container = self._containers[scale_bits]
        members = container.members + coefficients.tobytes()
        size = _SEAL_HEADER.size + len(members)
        sealed = _SEAL_HEADER.pack(*container.version, _PLAIN, 0, size) + members
        text = _sizes(self._slots) + _varint(2 << 3 | _BYTES_FIELD) + _varint(len(sealed)) + sealed
        text += _varint(3 << 3 | _DOUBLE_FIELD) + struct.pack("<d", 2.0**scale_bits)
        vector = self._library.ckks_vector_from(self._context, text)
        return np.array(vector.decrypt(), np.float64)

    def _taken_out(self, vector: Any) -> tuple["_Container", Coefficients]:
        """What TenSEAL writes of a ciphertext: what is around its coefficients, and these."""
        sealed = _field(vector.serialize(), 2)
        magic, header_bytes, major, minor, compression, _, size = _SEAL_HEADER.unpack_from(sealed)
        members = sealed[_SEAL_HEADER.size :]
        if compression == _ZSTANDARD:
            members = zstandard.ZstdDecompressor().decompressobj().decompress(members)
        coefficients: Coefficients = np.frombuffer(members[-self._data_bytes :], np.uint64).copy()
        known = magic == _SEAL_MAGIC and size == len(sealed) and compression in {_PLAIN, _ZSTANDARD}
        if not known or len(coefficients) * 8 != self._data_bytes or int(coefficients.max()) >= self._modulus:
            raise _unknown("writes ciphertexts")
        return _Container((magic, header_bytes, major, minor), members[: -self._data_bytes]), coefficients

    def _try_out(self) -> None:
        """With another prime, or another order of places, what is decrypted would be rubbish without a word."""
        values = np.resize([1.0, -3.0, 0.5], self._degree)
        bits = RINGS[self._degree].prime_bits[0] - 12
        if not np.allclose(self.decrypt(self.encrypt(values, bits), bits, self._degree), values, atol=1e-3):
            raise _unknown("orders polynomials")

    def _plus(self, one: Coefficients, other: Coefficients) -> Coefficients:
        """one + other, modulo the prime; a difference below 0 wraps to a huge number."""
        made = one + other
        np.minimum(made, made - self._modulus, out=made)
        return made

    def _minus(self, one: Coefficients, other: Coefficients) -> Coefficients:
        """one - other, modulo the prime."""
        made = one - other
        np.minimum(made, made + self._modulus, out=made)
        return made


def _unknown(what: str) -> Unavailable:
    return Unavailable(
        "tenseal_unknown",
        f"this version of TenSEAL {what} in another way than is known here",
        fix="pip install 'tenseal==0.3.18'",
    )


def _sizes(slots: int) -> bytes:
    """The field of TenSEAL's container that says how many values each ciphertext has."""
    packed = _varint(slots)
    return _varint(1 << 3 | _BYTES_FIELD) + _varint(len(packed)) + packed


def _varint(number: int) -> bytes:
    """As protobuf writes integers."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _field(message: bytes, number: int) -> bytes:
    """The bytes field of that number in a protobuf message that this process wrote; fields before it are of bytes."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        size, at = _read_varint(message, at)
        if tag >> 3 == number:
            return message[at : at + size]
        at += size
    return b""


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
