"""What an encrypted model is like in bytes: a model of a few tensors, whose metadata say what they stand for.

`fedn.weight` is what the values were multiplied by; `fedn.ciphertexts.…` are CKKS ciphertexts (Cheon et al. 2017) of
all values of the model, one tensor behind the other, as many in each as it has room for: two in each complex slot. A
ciphertext is two polynomials in the form in which they are added coefficient by coefficient, modulo one prime; its
coefficients have as many bits as the prime (fedn.models.planes). So the digests, stores, transfers and checks of models
hold for encrypted ones too, and a server that adds them needs no library for encryption.

Not here: encryption and keys (fedn.privacy), and the sum (fedn.aggregation.secagg).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedn.models.description import describe, described
from fedn.models.planes import Plane, planes_of
from fedn.models.wire import DType, ModelSpec, TensorInfo, differences, layout
from fedn.protocol.errors import InvalidInput

ENCRYPTION_KEY = "fedn.encryption"
"""Key of the header's metadata: the scheme, the key's id and the parameters, as canonical JSON."""
PLAIN_KEY = "fedn.plain"
"""The plain model's tensors, as `fedn.models.description` writes them."""
WEIGHT = "fedn.weight"
CIPHERTEXTS = "fedn.ciphertexts."
"""Begins the names of the tensors that hold the coefficients; the bits of them that it holds follow."""
SCHEME = "ckks"
POLYNOMIALS = 2
"""Of a ciphertext that was never multiplied by another."""
MIN_SCALE_BITS, MAX_SCALE_BITS = 16, 50
NOISE_DEVIATION = 3.3
"""Standard deviation of the error in each coefficient of a fresh ciphertext: 3.24 of SEAL's noise, and of rounding."""
NOISE_SIGMAS = 6.5
"""Deviations that the largest of a billion errors hardly exceeds."""


@dataclass(frozen=True)
class Ring:
    """Polynomials of one degree, with the primes that TenSEAL (SEAL) takes for them."""

    modulus: int
    """Of ciphertexts: the first prime."""
    prime_bits: tuple[int, ...]
    """Of all primes; the last one is of keys alone, which must be as safe as ciphertexts."""
    max_bits: int
    """Of all primes together, for 128 bits of security against classical attacks with ternary secrets: table 1 of the
    HomomorphicEncryption.org security standard (Albrecht et al. 2018)."""
    alone_max_bits: int
    """Values of what is never added up are below 2 to this power."""

    @property
    def planes(self) -> tuple[Plane, ...]:
        """In which coefficients are stored."""
        return planes_of(self.prime_bits[0])


RINGS = {
    2048: Ring(1099511590913, (40, 14), 54, 7),
    4096: Ring(1152921504606830593, (60, 49), 109, 20),
    8192: Ring(1152921504606748673, (60, 60), 218, 20),
}
"""By the degree of the polynomials. Nothing else is accepted anywhere."""


class Parameters(NamedTuple):
    """How values become ciphertexts."""

    key_id: str
    """Of the key that they are encrypted with."""
    degree: int
    """Of the polynomials; as many values are in one ciphertext."""
    scale_bits: int
    """Values are multiplied by 2 to this power before they are rounded."""

    @property
    def modulus(self) -> int:
        return RINGS[self.degree].modulus

    @property
    def in_ciphertext(self) -> int:
        """Values of a ciphertext: two in each of its complex slots, of which there are half as many as its degree."""
        return self.degree

    @property
    def noise(self) -> float:
        """The largest error, as good as certainly, of a value of one fresh ciphertext."""
        return NOISE_SIGMAS * NOISE_DEVIATION * float(np.sqrt(self.degree / 2)) / 2.0**self.scale_bits

    @property
    def text(self) -> str:
        fields = {"scheme": SCHEME, "key": self.key_id, "degree": self.degree, "scale_bits": self.scale_bits}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class EncryptedLayout:
    """What an encrypted model is like, to the byte, but for its weight and its ciphertexts."""

    parameters: Parameters
    plain: ModelSpec
    """The canonical layout of the model that it stands for."""
    header: bytes
    """The first bytes, up to the tensors."""
    spec: ModelSpec

    @property
    def count(self) -> int:
        """Number of ciphertexts."""
        return -(-self.plain.num_parameters // self.parameters.in_ciphertext)

    @property
    def coefficients(self) -> int:
        """Of all ciphertexts."""
        return self.count * POLYNOMIALS * self.parameters.degree

    def planes_in(self, spec: ModelSpec) -> list[tuple[Plane, TensorInfo]]:
        """Where the coefficients are in bytes with these tensors, whatever their order."""
        return [(plane, spec.by_name[_name(plane)]) for plane in RINGS[self.parameters.degree].planes]


def encrypted_layout(tensors: Iterable[tuple[str, DType, Sequence[int]]], parameters: Parameters) -> EncryptedLayout:
    """Of a model with such tensors (name, dtype, shape)."""
    plain = layout(tensors)[1]
    count = -(-plain.num_parameters // parameters.in_ciphertext)
    entries: list[tuple[str, DType, Sequence[int]]] = [(WEIGHT, np.dtype("<f8"), (1,))]
    entries += [
        (_name(plane), plane.dtype, (count, POLYNOMIALS, parameters.degree // plane.in_element))
        for plane in RINGS[parameters.degree].planes
    ]
    header, spec = layout(entries, {ENCRYPTION_KEY: parameters.text, PLAIN_KEY: describe(plain.tensors)})
    return EncryptedLayout(parameters, plain, header, spec)


def _name(plane: Plane) -> str:
    return f"{CIPHERTEXTS}{plane.shift}-{plane.shift + plane.bits - 1}"


def is_encrypted(spec: ModelSpec) -> bool:
    return ENCRYPTION_KEY in spec.metadata


def read_encrypted(spec: ModelSpec) -> EncryptedLayout:
    """What encrypted bytes stand for; nothing is believed that does not fit the rest.

    Raises:
        InvalidInput: (`bad_encrypted_model`) parameters that are none of ours, or other counts and sizes than theirs;
            (`bad_model`) it does not say which tensors it stands for.
    """
    parameters = _read_parameters(spec.metadata.get(ENCRYPTION_KEY, ""))
    found = encrypted_layout(described(spec.metadata.get(PLAIN_KEY, ""), PLAIN_KEY), parameters)
    if faults := differences(spec, found.spec):
        raise _bad("; ".join(faults))
    if spec.metadata != found.spec.metadata:
        raise _bad("its metadata are not written as they must be")
    return found


def plain_entries(spec: ModelSpec) -> list[tuple[str, DType, tuple[int, ...]]]:
    """(name, dtype, shape) of the tensors of a model, or of the one that an encrypted model stands for."""
    plain = read_encrypted(spec).plain if is_encrypted(spec) else spec
    return [(tensor.name, tensor.dtype, tensor.shape) for tensor in plain.tensors]


def _read_parameters(text: str) -> Parameters:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"its {ENCRYPTION_KEY} is no JSON") from error
    if not isinstance(fields, dict) or fields.keys() != {"scheme", "key", "degree", "scale_bits"}:
        raise _bad(f"its {ENCRYPTION_KEY} does not say scheme, key, degree and scale_bits")
    scheme, key_id, degree, scale_bits = (fields[name] for name in ("scheme", "key", "degree", "scale_bits"))
    if scheme != SCHEME or type(degree) is not int or degree not in RINGS:
        raise _bad(f"there is no {str(scheme)[:20]} of degree {str(degree)[:20]} here")
    if type(scale_bits) is not int or not MIN_SCALE_BITS <= scale_bits <= MAX_SCALE_BITS:
        raise _bad(f"a scale of {str(scale_bits)[:20]} bits is not between {MIN_SCALE_BITS} and {MAX_SCALE_BITS}")
    if not isinstance(key_id, str) or len(key_id) > 80:
        raise _bad("it names no key")
    return Parameters(key_id, degree, scale_bits)


def _bad(fault: str) -> InvalidInput:
    return InvalidInput(
        "bad_encrypted_model",
        f"The bytes are not a valid encrypted model: {fault}",
        fix="Encrypt with the same version of fedn: fedn model encrypt.",
    )
