"""What comes of encrypted updates is FedAvg in float64, whatever the shapes, weights, clients and combiners."""

from bisect import bisect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.models.encrypted import RINGS
from fedn.models.wire import decode, encode, read_spec
from tests.support.encrypted import cipher_of, encrypted, secagg

SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    shapes=SHAPES,
    places=st.lists(st.integers(0, 2), min_size=1, max_size=8),
    span=st.sampled_from([1e-3, 1.0, 16.0]),
    heaviest=st.sampled_from([1, 50, 100_000]),
    start=st.sampled_from(["plain", "encrypted"]),
)
def test_over_any_spread_of_clients_it_is_the_weighted_mean(seed, shapes, places, span, heaviest, start):
    rng = np.random.default_rng(seed)
    rule = secagg()
    names = [f"t{number}" for number in range(len(shapes))]

    def model():
        return {name: rng.uniform(-span, span, shape) for name, shape in zip(names, shapes, strict=True)}

    base = bytes(encode(model()))
    if start == "encrypted":
        base = bytes(cipher_of().encrypt(decode(base), cipher_of().alone))
    spec = read_spec(base)
    updates = [(model(), float(rng.integers(1, heaviest + 1))) for _ in places]
    combiners = {place: rule.start(rule.update_spec(spec)) for place in places}
    for place, (tensors, weight) in zip(places, updates, strict=True):
        data = encrypted(rule, tensors, weight)
        combiners[place].add(data, read_spec(data), weight)
    parts = [(b"".join(map(bytes, one.result(1 << 16))), one.weight) for one in combiners.values()]
    made = b"".join(map(bytes, rule.combine_models(parts, spec)))
    assert len(made) == rule.model_layout(spec).spec.size_bytes
    mean = decode(cipher_of().decrypt(made, max_value=16.0))
    total = sum(weight for _, weight in updates)
    for name, shape in zip(names, shapes, strict=True):
        expected = sum(weight * tensors[name] for tensors, weight in updates) / total
        assert mean[name].shape == shape
        np.testing.assert_allclose(mean[name], expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), clients=st.integers(1, 6))
def test_integers_and_bools_become_what_fedavg_makes_of_them(seed, clients):
    rng = np.random.default_rng(seed)
    rule = secagg()
    like = {
        "n": lambda: rng.integers(-1_000_000, 1_000_000, 7),
        "small": lambda: rng.integers(0, 200, 3).astype(np.uint8),
        "flag": lambda: rng.integers(0, 2, 5).astype(bool),
        "w": lambda: rng.normal(size=4).astype(np.float32),
    }
    updates = [
        ({name: make() for name, make in like.items()}, float(rng.integers(1, 9) * 1000)) for _ in range(clients)
    ]
    spec = read_spec(bytes(encode(updates[0][0])))
    total = rule.start(rule.update_spec(spec))
    for tensors, weight in updates:
        data = encrypted(rule, tensors, weight)
        total.add(data, read_spec(data), weight)
    mean = decode(cipher_of().decrypt(b"".join(map(bytes, total.result(1 << 16)))))
    for name, array in updates[0][0].items():
        expected = sum(weight * tensors[name].astype(float) for tensors, weight in updates) / total.weight
        assert mean[name].dtype == array.dtype
        if name == "flag":
            np.testing.assert_array_equal(mean[name], expected >= 0.5)
        elif name == "w":
            np.testing.assert_allclose(mean[name], expected, atol=1e-6)
        else:
            assert np.abs(mean[name] - expected).max() <= 0.51


def steepest(degree):
    """Signs for which the sum of all values, two in each slot, is in one coefficient of the encoding: that of X.

    SEAL's slot k is the value at x = exp(iπ·3^k/degree), where X^(degree/2) is i for an even k, and else -i.
    """
    powers = [pow(3, slot, 2 * degree) for slot in range(degree // 2)]
    angles = np.pi * np.array(powers) / degree
    return np.concatenate([np.sign(np.cos(angles)), np.sign(np.sin(angles)) * np.resize([1.0, -1.0], degree // 2)])


def full(degree, weight):
    return secagg(degree, max_clients=50, max_weight=float(weight), min_weight=float(weight), precision=1e-4)


def scale_of(rule):
    return rule.encryption("NumTrainingExamples", {}).scale_bits


@pytest.mark.parametrize("degree", RINGS)
def test_as_many_of_the_largest_as_the_plan_allows_do_not_overflow(degree):
    # The largest weight that the rule still finds room for at the scale of another one.
    scale_bits = scale_of(full(degree, 300))
    weights = range(300, 601)
    weight = float(weights[bisect(weights, -scale_bits, key=lambda weight: -scale_of(full(degree, weight))) - 1])
    rule = full(degree, weight)
    assert scale_of(rule) == scale_bits == scale_of(full(degree, weight + 1)) + 1
    base = {"w": np.concatenate([16.0 * steepest(degree), [16.0, -16.0, 0.0, 1e-4]])}
    spec = read_spec(bytes(encode(base)))
    total = rule.start(rule.update_spec(spec))
    data = encrypted(rule, base, weight)
    for _ in range(50):
        total.add(data, read_spec(data), weight)
    mean = decode(cipher_of(degree=degree).decrypt(b"".join(map(bytes, total.result(1 << 20))), max_value=16.0))
    np.testing.assert_allclose(mean["w"], base["w"], atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), clients=st.integers(1, 10), size=st.integers(1, 5000))
def test_with_the_smallest_ciphertexts_it_is_the_weighted_mean_too(seed, clients, size):
    rng = np.random.default_rng(seed)
    rule = secagg(2048, max_clients=10, min_weight=200.0, max_weight=700.0, max_value=8.0)
    updates = [({"w": rng.uniform(-8, 8, size)}, float(rng.integers(200, 701))) for _ in range(clients)]
    total = rule.start(rule.update_spec(read_spec(bytes(encode(updates[0][0])))))
    for tensors, weight in updates:
        data = encrypted(rule, tensors, weight)
        total.add(data, read_spec(data), weight)
    mean = decode(cipher_of(degree=2048).decrypt(b"".join(map(bytes, total.result(64))), max_value=8.0))
    expected = sum(weight * tensors["w"] for tensors, weight in updates) / total.weight
    np.testing.assert_allclose(mean["w"], expected, rtol=0, atol=1e-6)
