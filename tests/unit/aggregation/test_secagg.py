"""What a server refuses of encrypted updates before it adds them, and what it refuses of a plan's options."""

import subprocess
import sys

import numpy as np
import pytest

from fedn.aggregation.base import get_rule
from fedn.aggregation.checks import FiniteCheck, check_header
from fedn.aggregation.secagg import SecAgg
from fedn.models.encrypted import CIPHERTEXTS, ENCRYPTION_KEY, PLAIN_KEY, RINGS, WEIGHT, read_encrypted
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.errors import FednError, InvalidInput, UpdateRefused
from tests.support.encrypted import cipher_of, encrypted, secagg

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
    ciphertexts = decode(good)[CIPHERTEXTS]
    q = RINGS[8192].modulus
    at_modulus, huge = ciphertexts.copy(), ciphertexts.copy()
    at_modulus[-1, -1, -1] = q
    huge[0, 0, 0] = 2**64 - 1
    text = read_spec(good).metadata[ENCRYPTION_KEY]
    rng = np.random.default_rng(0)
    return {
        "truncated": good[:-8],
        "random bytes": rng.bytes(len(good)),
        "random coefficients": changed(good, **{CIPHERTEXTS: rng.integers(0, 2**64, ciphertexts.shape, np.uint64)}),
        "a coefficient that is the modulus": changed(good, **{CIPHERTEXTS: at_modulus}),
        "a huge coefficient": changed(good, **{CIPHERTEXTS: huge}),
        "fewer ciphertexts": changed(good, **{CIPHERTEXTS: ciphertexts[:1]}),
        "more ciphertexts": changed(good, **{CIPHERTEXTS: np.concatenate([ciphertexts] * 2)}),
        "three polynomials": changed(good, **{CIPHERTEXTS: np.concatenate([ciphertexts, ciphertexts[:, :1]], 1)}),
        "another dtype": changed(good, **{CIPHERTEXTS: ciphertexts.view(np.int64)}),
        "a header of a thousand tera": b"\xff" * 6 + b"\0\0" + good[8:],
        "no ciphertexts": bytes(encode({WEIGHT: np.array([10.0])}, read_spec(good).metadata)),
        "no metadata": bytes(encode(decode(good))),
        "another key": changed(good, metadata={ENCRYPTION_KEY: text.replace("sha256:", "sha256:0")}),
        "another scale": changed(good, metadata={ENCRYPTION_KEY: text.replace('"scale_bits":', '"scale_bits":1')}),
        "another degree": changed(good, metadata={ENCRYPTION_KEY: text.replace("8192", "4096")}),
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
        ({"key_id": KEY_ID, "degree": 2048}, "degree"),
        ({"key_id": KEY_ID, "max_clients": 1_000_000}, "precision"),
        ({"key_id": KEY_ID, "max_value": 1e9}, "precision"),
        ({"key_id": KEY_ID, "degree": 4096}, "precision"),
        ({"key_id": KEY_ID, "max_weight": 1.0, "min_weight": 2.0}, "min_weight"),
    ],
)
def test_options_that_cannot_hold_are_refused_with_their_field(options, field):
    with pytest.raises(InvalidInput) as error:
        SecAgg(**options)
    assert error.value.where["field"] == f"rule.options.{field}"


def test_the_primes_are_safe_and_ciphertexts_small(rule, good):
    for ring in RINGS.values():
        assert sum(ring.prime_bits) <= ring.max_bits
        assert 2 ** (ring.prime_bits[0] - 1) < ring.modulus < 2 ** ring.prime_bits[0]
    big = {"w": np.zeros(1_000_000, np.float32)}
    spec = rule.update_spec(read_spec(bytes(encode(big))))
    assert spec.size_bytes <= 8.1 * 4 * 1_000_000
    assert read_encrypted(spec).count == -(-1_000_000 // 4096)
