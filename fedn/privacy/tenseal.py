"""CKKS by TenSEAL (Benaissa et al. 2021), which is Microsoft SEAL: values of one ciphertext in, coefficients out.

TenSEAL reads and writes ciphertexts in a container of its own. Here only their coefficients count: what comes from
elsewhere is checked as numbers, and put into a container that this process wrote itself, so that no foreign byte is
parsed by the library.
"""

import importlib
import struct
from typing import Any, NamedTuple

import numpy as np
import zstandard

from fedn.models.encrypted import POLYNOMIALS, RINGS
from fedn.protocol.errors import InvalidInput, Unavailable

Values = np.ndarray[tuple[int], np.dtype[np.float64]]
Coefficients = np.ndarray[tuple[int], np.dtype[np.uint64]]

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
    """A key at work. For one thread at a time."""

    def __init__(self, library: Any, context: Any, degree: int) -> None:
        self._library = library
        self._context = context
        self._modulus = RINGS[degree].modulus
        self._data_bytes = POLYNOMIALS * degree * 8
        self._slots = degree // 2
        self._containers: dict[int, _Container] = {}
        """By scale: what is around the coefficients."""

    def encrypt(self, values: Values, scale_bits: int) -> Coefficients:
        """The coefficients of one ciphertext: (2·degree,), below the modulus.

        Args:
            values: (at most degree/2,), finite; times 2^scale_bits below half of the modulus.
        """
        return self._encrypted(values, scale_bits)[1]

    def decrypt(self, coefficients: Coefficients, scale_bits: int) -> Values:
        """The values of one ciphertext: (degree/2,).

        Args:
            coefficients: (2·degree,), below the modulus.
        """
        if scale_bits not in self._containers:
            self._containers[scale_bits] = self._encrypted(np.zeros(1), scale_bits)[0]
        container = self._containers[scale_bits]
        members = container.members + coefficients.tobytes()
        size = _SEAL_HEADER.size + len(members)
        sealed = _SEAL_HEADER.pack(*container.version, _PLAIN, 0, size) + members
        text = _sizes(self._slots) + _varint(2 << 3 | _BYTES_FIELD) + _varint(len(sealed)) + sealed
        text += _varint(3 << 3 | _DOUBLE_FIELD) + struct.pack("<d", 2.0**scale_bits)
        vector = self._library.ckks_vector_from(self._context, text)
        return np.array(vector.decrypt(), np.float64)

    def _encrypted(self, values: Values, scale_bits: int) -> tuple["_Container", Coefficients]:
        vector = self._library.ckks_vector(self._context, values.tolist(), scale=2.0**scale_bits)
        sealed = _field(vector.serialize(), 2)
        magic, header_bytes, major, minor, compression, _, size = _SEAL_HEADER.unpack_from(sealed)
        members = sealed[_SEAL_HEADER.size :]
        if compression == _ZSTANDARD:
            members = zstandard.ZstdDecompressor().decompressobj().decompress(members)
        coefficients: Coefficients = np.frombuffer(members[-self._data_bytes :], np.uint64)
        known = magic == _SEAL_MAGIC and size == len(sealed) and compression in {_PLAIN, _ZSTANDARD}
        if not known or len(coefficients) * 8 != self._data_bytes or int(coefficients.max()) >= self._modulus:
            raise Unavailable(
                "tenseal_unknown",
                "this version of TenSEAL writes ciphertexts in another way than is known here",
                fix="pip install 'tenseal==0.3.18'",
            )
        return _Container((magic, header_bytes, major, minor), members[: -self._data_bytes]), coefficients


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
