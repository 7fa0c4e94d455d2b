"""A key for tests, and updates that are encrypted with it."""

from functools import lru_cache
from typing import Any

import numpy as np

from fedn.aggregation.secagg import SecAgg
from fedn.models.encrypted import Parameters, read_encrypted
from fedn.models.planes import Integers, join, split
from fedn.models.wire import Tensors, decode, encode, read_spec, view
from fedn.privacy.keys import Key, create_key
from fedn.privacy.models import ModelCipher


def key_of(name: str = "shared", degree: int = 4096) -> Key:
    """Another one for each name."""
    return _key(name, degree)


def cipher_of(name: str = "shared", degree: int = 4096) -> ModelCipher:
    return _cipher(name, degree)


@lru_cache(maxsize=8)
def _key(name: str, degree: int) -> Key:
    return create_key(degree)


@lru_cache(maxsize=8)
def _cipher(name: str, degree: int) -> ModelCipher:
    return ModelCipher(key_of(name, degree))


def secagg(degree: int = 4096, **options: Any) -> SecAgg:
    return SecAgg(key_id=key_of(degree=degree).key_id, degree=degree, **options)


def encrypted(rule: SecAgg, tensors: Tensors, weight: float) -> bytes:
    """An update of a client that does what the plan's rule says."""
    said = rule.encryption("NumTrainingExamples", {})
    parameters = Parameters(said.key_id, said.degree, said.scale_bits)
    return bytes(cipher_of(degree=said.degree).encrypt(tensors, parameters, weight=weight, max_value=said.max_value))


def coefficients_of(data: bytes) -> Integers:
    """The coefficients of encrypted bytes: (ciphertexts, 2, degree)."""
    spec = read_spec(data)
    found = read_encrypted(spec)
    made = np.empty(found.coefficients, np.uint64)
    stored = found.planes_in(spec)
    join([view(data, info).reshape(-1) for _, info in stored], [plane for plane, _ in stored], made)
    return made.reshape(found.count, 2, -1)


def with_coefficients(data: bytes, coefficients: Integers) -> bytes:
    """The bytes with others, however many; bits that have no place are cut off."""
    spec = read_spec(data)
    tensors = decode(data)
    for plane, info in read_encrypted(spec).planes_in(spec):
        part = split(coefficients.reshape(-1), plane)
        tensors[info.name] = part.reshape(*coefficients.shape[:2], -1)
    return bytes(encode(tensors, spec.metadata))


def low_bits(data: bytes) -> str:
    """Name of the tensor that holds the low bits of the coefficients."""
    spec = read_spec(data)
    return read_encrypted(spec).planes_in(spec)[0][1].name
