"""What a server refuses of encrypted updates before it adds them, and what it refuses of a plan's options."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from fedn.aggregation.base import get_rule
from fedn.aggregation.checks import FiniteCheck, check_header
from fedn.aggregation.secagg import SecAgg
from fedn.models.encrypted import ENCRYPTION_KEY, PLAIN_KEY, RINGS, WEIGHT, read_encrypted
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.errors import FednError, InvalidInput, UpdateRefused
from tests.support.encrypted import (
    cipher_of,
    coefficients_of,
    encrypted,
    low_bits,
    secagg,
    with_coefficients,
)

TENSORS = {"w": np.linspace(-1, 1, 5000, dtype=np.float32)}
BASE = read_spec(bytes(encode(TENSORS)))


@pytest.fixture(scope="module")
def rule():
    return secagg(max_weight=100.0, max_clients=2)


@pytest.fixture(scope="module")
def good(rule):
    return encrypted(rule, TENSORS, 10.0)


def changed(data, *, metadata=None, **tensors):
    """The bytes with other tensors or metadata."""
    return bytes(encode(decode(data) | tensors, read_spec(data).metadata | (metadata or {})))


def add(total, data, weight=10.0, **how):
    """As a combiner does: what arrives is checked by its header, and added."""
    spec = read_spec(data)
    check_header(spec, secagg(max_weight=100.0, max_clients=2).update_spec(BASE))
    finite = FiniteCheck(spec)
    finite.feed(0, data)
    finite.finish()
    total.add(data, spec, weight, **how)


def test_a_server_imports_no_library_for_encryption():
    code = "import sys, fedn.combiner.main, fedn.reducer.main, fedn.aggregation.secagg; print('tenseal' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def hostile(good):
    coefficients = coefficients_of(good)
    low = low_bits(good)
    first = decode(good)[low]
    q = RINGS[4096].modulus
    at_modulus, huge = coefficients.copy(), coefficients.copy()
    at_modulus[-1, -1, -1] = q
    huge[0, 0, 0] = 2**60 - 1
    text = read_spec(good).metadata[ENCRYPTION_KEY]
    rng = np.random.default_rng(0)
    return {
        "truncated": good[:-8],
        "random bytes": rng.bytes(len(good)),
        "random coefficients": with_coefficients(good, rng.integers(q, 2**60, coefficients.shape, np.uint64)),
        "a coefficient that is the modulus": with_coefficients(good, at_modulus),
        "a huge coefficient": with_coefficients(good, huge),
        "fewer ciphertexts": with_coefficients(good, coefficients[:1]),
        "more ciphertexts": with_coefficients(good, np.concatenate([coefficients] * 2)),
        "three polynomials": with_coefficients(good, np.concatenate([coefficients, coefficients[:, :1]], 1)),
        "fewer low bits": changed(good, **{low: first[:1]}),
        "another dtype": changed(good, **{low: first.view(np.int32)}),
        "coefficients of 64 bits": bytes(
            encode({WEIGHT: np.array([10.0]), "fedn.ciphertexts": coefficients}, read_spec(good).metadata)
        ),
        "a header of a thousand tera": b"\xff" * 6 + b"\0\0" + good[8:],
        "no ciphertexts": bytes(encode({WEIGHT: np.array([10.0])}, read_spec(good).metadata)),
        "no metadata": bytes(encode(decode(good))),
        "another key": changed(good, metadata={ENCRYPTION_KEY: text.replace("sha256:", "sha256:0")}),
        "another scale": changed(good, metadata={ENCRYPTION_KEY: text.replace('"scale_bits":', '"scale_bits":1')}),
        "another degree": changed(good, metadata={ENCRYPTION_KEY: text.replace("4096", "8192")}),
        "other tensors": changed(good, metadata={PLAIN_KEY: '{"w":["F64",[5000]]}'}),
        "another weight": changed(good, **{WEIGHT: np.array([20.0])}),
        "a negative weight": changed(good, **{WEIGHT: np.array([-10.0])}),
        "a weight that is no number": changed(good, **{WEIGHT: np.array([np.nan])}),
        "the plain model": bytes(encode(TENSORS)),
    }


def test_hostile_updates_are_refused_and_leave_the_sum_as_it_is(rule, good):
    total = rule.start(rule.update_spec(BASE))
    add(total, good)
    before = b"".join(map(bytes, total.result(1 << 20)))
    for what, data in hostile(good).items():
        with pytest.raises(FednError) as refusal:
            add(total, data)
        assert refusal.value.code in {"bad_model", "update_does_not_fit", "bad_ciphertext", "update_not_finite"}, what
    with pytest.raises(UpdateRefused, match="not a difference"):
        add(total, good, form="delta")
    assert total.count == 1 and total.weight == 10.0
    assert b"".join(map(bytes, total.result(1 << 20))) == before


def test_the_checks_of_the_sum_hold_without_those_of_the_arrival(rule, good):
    for what in ("fewer ciphertexts", "another key", "another weight", "a huge coefficient", "the plain model"):
        data = hostile(good)[what]
        total = rule.start(rule.update_spec(BASE))
        with pytest.raises(UpdateRefused):
            total.add(data, read_spec(data), 10.0)
        assert not total.count
        with pytest.raises(InvalidInput) as error:
            list(rule.combine_models([(good, 10.0), (data, 10.0)], BASE))
        assert error.value.code == "combiner_model_does_not_fit"


@pytest.mark.parametrize(("weight", "code"), [(0.5, "weight_out_of_range"), (101.0, "weight_out_of_range")])
def test_a_weight_that_the_plan_does_not_allow_is_refused(rule, good, weight, code):
    total = rule.start(rule.update_spec(BASE))
    with pytest.raises(UpdateRefused) as error:
        add(total, good, weight)
    assert error.value.code == code


def test_a_sum_takes_no_more_than_the_plan_says(rule):
    heavy = encrypted(rule, TENSORS, 100.0)
    total, other = (rule.start(rule.update_spec(BASE)) for _ in range(2))
    add(total, heavy, 100.0)
    add(total, heavy, 100.0)
    with pytest.raises(UpdateRefused) as error:
        add(total, heavy, 100.0)
    assert error.value.code == "sum_is_full"
    add(other, heavy, 100.0)
    with pytest.raises(InvalidInput, match="may overflow"):
        total.merge(other)
    models = [(b"".join(map(bytes, one.result(1 << 20))), one.weight) for one in (total, other)]
    with pytest.raises(InvalidInput, match="may overflow"):
        list(rule.combine_models(models, BASE))


def test_weights_that_are_no_whole_numbers_fill_a_sum_as_well():
    rule = secagg(max_weight=0.7, min_weight=0.7, max_clients=6)
    total = rule.start(rule.update_spec(BASE))
    data = encrypted(rule, TENSORS, 0.7)
    for _ in range(6):
        total.add(data, read_spec(data), 0.7)
    assert total.weight > 6 * 0.7  # as computers count
    with pytest.raises(UpdateRefused, match="may have"):
        total.add(data, read_spec(data), 0.7)


def test_merged_sums_are_the_sum(rule, good):
    first, second, empty, both = (rule.start(rule.update_spec(BASE)) for _ in range(4))
    light = encrypted(rule, TENSORS, 1.0)
    for total, data, weight in ((first, good, 10.0), (second, light, 1.0), (both, good, 10.0), (both, light, 1.0)):
        add(total, data, weight)
    empty.merge(second)
    first.merge(empty)
    assert first.weight == both.weight == 11.0 and first.count == both.count == 2
    for piece in (64, 4096, 1 << 22):
        assert b"".join(map(bytes, first.result(piece))) == b"".join(map(bytes, both.result(1 << 16)))
    stranger = secagg(max_weight=100.0, max_clients=2, max_value=1.0)
    with pytest.raises(InvalidInput):
        first.merge(stranger.start(stranger.update_spec(BASE)))


def test_nothing_added_has_no_result(rule):
    with pytest.raises(InvalidInput):
        rule.start(rule.update_spec(BASE)).result(64)
    with pytest.raises(InvalidInput):
        rule.combine_models([], BASE)


def test_a_model_of_another_key_is_refused_by_the_rule_and_an_encrypted_one_by_other_rules(rule):
    foreign = cipher_of("another").encrypt(TENSORS, cipher_of("another").alone)
    with pytest.raises(InvalidInput) as error:
        rule.update_spec(read_spec(foreign))
    assert error.value.code == "model_of_other_key"
    for name, options in (("fedavg", {}), ("median", {"scope": "combiner"}), ("norm_clipping", {"max_norm": 1.0})):
        with pytest.raises(InvalidInput) as error:
            get_rule(name, options).model_layout(read_spec(foreign))
        assert error.value.code == "model_is_encrypted"


KEY_ID = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "key_id"),
        ({"key_id": "mine"}, "key_id"),
        ({"key_id": KEY_ID, "degree": 1024}, "degree"),
        ({"key_id": KEY_ID, "max_clients": 1_000_000}, "precision"),
        ({"key_id": KEY_ID, "max_value": 1e9}, "precision"),
        ({"key_id": KEY_ID, "degree": 2048}, "precision"),
        ({"key_id": KEY_ID, "max_weight": 1.0, "min_weight": 2.0}, "min_weight"),
    ],
)
def test_options_that_cannot_hold_are_refused_with_their_field(options, field):
    with pytest.raises(InvalidInput) as error:
        SecAgg(**options)
    assert error.value.where["field"] == f"rule.options.{field}"


def test_an_update_that_came_in_pieces_of_any_size_is_the_same(rule, good):
    whole, parts = (rule.start(rule.update_spec(BASE)) for _ in range(2))
    add(whole, good)
    passed: list[tuple[int, int]] = []
    cuts = [*range(0, len(good), 4999), len(good)]
    pieces = [memoryview(good)[at:to] for at, to in itertools.pairwise(cuts)]
    parts.add(Pieces(pieces, lambda start, stop: passed.append((start, stop))), read_spec(good), 10.0)
    assert b"".join(map(bytes, parts.result(64))) == b"".join(map(bytes, whole.result(64)))
    assert set(passed) >= set(itertools.pairwise(cuts[1:-1]))  # a file that is mapped may leave the memory


def test_the_primes_are_safe():
    for ring in RINGS.values():
        assert sum(ring.prime_bits) <= ring.max_bits
        assert 2 ** (ring.prime_bits[0] - 1) < ring.modulus < 2 ** ring.prime_bits[0]


SMALL = {"degree": 2048, "max_clients": 10, "min_weight": 200.0, "max_weight": 700.0, "max_value": 8.0}
"""Bounds that leave an error of a millionth."""


def times_float32(rule, size):
    """Bytes of an update of so many parameters, beside those of float32. It has as many tensors as a small network."""
    shapes = {"0.weight": (size - 40,), "0.bias": (20,), "1.weight": (10,), "1.bias": (10,)}
    base = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return rule.update_spec(read_spec(bytes(encode(base)))).size_bytes / (4 * size)


@pytest.mark.parametrize(
    ("options", "smallest"), [(SMALL, 550), ({}, 1650), ({"degree": 8192}, 3300)], ids=["2048", "4096", "8192"]
)
def test_an_update_is_at_most_ten_times_as_large_as_in_float32_from_the_size_on_that_the_docs_say(options, smallest):
    rule = secagg(**options)
    degree = options.get("degree", 4096)
    full = [count * degree + more for count in range(1, 40) for more in (0, 1)]
    sizes = [*range(smallest, 4 * degree, 50), *full, 100_000, 1_000_000]
    assert max(times_float32(rule, size) for size in sizes if size >= smallest) <= 10
    assert times_float32(rule, smallest // 2) > 10
    assert times_float32(rule, 1_000_000) == pytest.approx(RINGS[degree].prime_bits[0] / 16, rel=0.01)


def test_an_encrypted_update_has_the_size_that_its_rule_says():
    for options, size in ((SMALL, 650), ({}, 5000)):
        rule, tensors = secagg(**options), {"w": np.zeros(size, np.float32)}
        data = encrypted(rule, tensors, 300.0)
        assert len(data) == rule.update_spec(read_spec(bytes(encode(tensors)))).size_bytes <= 10 * 4 * size
        assert read_encrypted(read_spec(data)).count == -(-size // options.get("degree", 4096))
