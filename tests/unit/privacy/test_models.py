"""Whole models, encrypted and decrypted; what is damaged or does not fit is refused, and the process lives on."""

import numpy as np
import pytest

from fedn.models.encrypted import (
    ENCRYPTION_KEY,
    PLAIN_KEY,
    RINGS,
    WEIGHT,
    Parameters,
    is_encrypted,
    read_encrypted,
)
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.errors import InvalidInput
from tests.support.encrypted import cipher_of, coefficients_of, with_coefficients

RNG = np.random.default_rng(1)
TENSORS = {
    "layer.w": RNG.normal(size=(70, 60)).astype(np.float32),
    "half": RNG.normal(size=5).astype(np.float16),
    "double": RNG.normal(size=(2, 3)),
    "empty": np.zeros((0, 4), np.float32),
    "steps": np.array(-123_456, np.int64),
    "bytes": np.arange(7, dtype=np.uint8),
    "mask": np.array([True, False]),
}


@pytest.fixture(scope="module")
def data():
    return bytes(cipher_of().encrypt(TENSORS, cipher_of().alone))


@pytest.mark.parametrize("degree", RINGS)
def test_a_model_comes_back_in_its_shapes_and_dtypes(degree):
    cipher = cipher_of(degree=degree)
    data = cipher.encrypt(TENSORS, cipher.alone)
    assert is_encrypted(read_spec(data))
    plain = cipher.decrypt(data)
    assert list(decode(plain)) == list(TENSORS)
    assert bytes(plain) == bytes(encode(decode(plain)))
    for name, array in decode(plain).items():
        assert (array.dtype, array.shape) == (TENSORS[name].dtype, TENSORS[name].shape)
        tolerance = 1e-3 if array.dtype == np.float16 else 1e-6
        np.testing.assert_allclose(array.astype(float), TENSORS[name].astype(float), atol=tolerance)


def test_no_two_encryptions_are_equal_and_values_do_not_show(data):
    again = bytes(cipher_of().encrypt(TENSORS, cipher_of().alone))
    assert (coefficients_of(data) == coefficients_of(again)).mean() < 0.001
    coefficients = coefficients_of(data) / RINGS[4096].modulus
    assert abs(coefficients.mean() - 0.5) < 0.02
    assert TENSORS["double"].tobytes() not in data


@pytest.mark.parametrize("value", [np.nan, np.inf, -(2.0**21)])
def test_values_that_a_sum_could_not_hold_are_not_encrypted(value):
    with pytest.raises(InvalidInput, match="'w'") as error:
        cipher_of().encrypt({"w": np.array([0.0, value])}, cipher_of().alone)
    assert error.value.code == "value_too_large"


def test_integers_may_be_larger_than_other_values():
    integers = {"n": np.array([2**30])}
    cipher, parameters = cipher_of(), Parameters(cipher_of().key_id, 4096, 31)
    assert decode(cipher.decrypt(cipher.encrypt(integers, parameters, max_value=2**12)))["n"] == 2**30
    with pytest.raises(InvalidInput, match="value"):
        cipher.encrypt(integers, parameters, max_value=2**11)


def changed(data, metadata=None, **tensors):
    return bytes(encode(decode(data) | tensors, {**read_spec(data).metadata, **(metadata or {})}))


def hostile(data):
    ciphertexts, text = coefficients_of(data), read_spec(data).metadata[ENCRYPTION_KEY]
    too_large = ciphertexts.copy()
    too_large[0, 1, 5] = RINGS[4096].modulus
    return {
        "truncated": data[:-1],
        "random": RNG.bytes(10_000),
        "coefficients": with_coefficients(data, too_large),
        "counts": with_coefficients(data, ciphertexts[:1]),
        "weight": changed(data, **{WEIGHT: np.array([0.0])}),
        "weight nan": changed(data, **{WEIGHT: np.array([np.nan])}),
        "a sum's garbage": with_coefficients(data, RNG.integers(0, 2**59, ciphertexts.shape, np.uint64)),
        "scale": changed(data, {ENCRYPTION_KEY: text.replace('"scale_bits":38', '"scale_bits":99')}),
        "degree": changed(data, {ENCRYPTION_KEY: text.replace("4096", "3")}),
        "scheme": changed(data, {ENCRYPTION_KEY: text.replace("ckks", "none")}),
        "no JSON": changed(data, {ENCRYPTION_KEY: "{"}),
        "no object": changed(data, {ENCRYPTION_KEY: "[]"}),
        "huge plain": changed(data, {PLAIN_KEY: '{"w":["F32",[1000000000000]]}'}),
        "odd plain": changed(data, {PLAIN_KEY: '{"w":["F32",[-1]]}'}),
        "plain in other words": changed(data, {PLAIN_KEY: read_spec(data).metadata[PLAIN_KEY] + " "}),
    }


def test_damaged_models_are_refused_before_the_library_sees_them(data):
    for what, bad in hostile(data).items():
        with pytest.raises(InvalidInput) as error:
            cipher_of().decrypt(bad, max_value=16.0)
        assert error.value.code in {"bad_encrypted_model", "bad_model"}, what
    assert decode(cipher_of().decrypt(data))["steps"] == -123_456


def test_another_key_is_named_not_tried(data):
    with pytest.raises(InvalidInput) as error:
        cipher_of("another").decrypt(data)
    assert error.value.code == "key_does_not_fit"
    with pytest.raises(InvalidInput):
        cipher_of("another").encrypt(TENSORS, cipher_of().alone)


def test_a_model_without_values_is_one(data):
    empty = cipher_of().encrypt({"e": np.zeros((0, 3))}, cipher_of().alone)
    assert read_encrypted(read_spec(empty)).count == 0
    assert decode(cipher_of().decrypt(empty))["e"].shape == (0, 3)
