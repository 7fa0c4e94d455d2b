"""A key for tests, and updates that are encrypted with it."""

from functools import lru_cache
from typing import Any

from fedn.aggregation.secagg import SecAgg
from fedn.models.encrypted import Parameters
from fedn.models.wire import Tensors
from fedn.privacy.keys import Key, create_key
from fedn.privacy.models import ModelCipher


def key_of(name: str = "shared", degree: int = 8192) -> Key:
    """Another one for each name."""
    return _key(name, degree)


def cipher_of(name: str = "shared", degree: int = 8192) -> ModelCipher:
    return _cipher(name, degree)


@lru_cache(maxsize=8)
def _key(name: str, degree: int) -> Key:
    return create_key(degree)


@lru_cache(maxsize=8)
def _cipher(name: str, degree: int) -> ModelCipher:
    return ModelCipher(key_of(name, degree))


def secagg(degree: int = 8192, **options: Any) -> SecAgg:
    return SecAgg(key_id=key_of(degree=degree).key_id, degree=degree, **options)


def encrypted(rule: SecAgg, tensors: Tensors, weight: float) -> bytes:
    """An update of a client that does what the plan's rule says."""
    said = rule.encryption("NumTrainingExamples", {})
    parameters = Parameters(said.key_id, said.degree, said.scale_bits)
    return bytes(cipher_of(degree=said.degree).encrypt(tensors, parameters, weight=weight, max_value=said.max_value))
