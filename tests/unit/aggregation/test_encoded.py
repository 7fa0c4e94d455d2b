"""Sums of encoded updates: the same as of decoded ones, to the bit."""

import numpy as np
import pytest

from fedn.aggregation.accumulator import Accumulator
from fedn.models.codecs.base import pieces
from fedn.models.codecs.cast import BFloat16, Float16
from fedn.models.codecs.chain import Chain
from fedn.models.codecs.delta import Delta
from fedn.models.codecs.encode import encode
from fedn.models.codecs.int8 import Int8
from fedn.models.codecs.payload import Payload
from fedn.models.codecs.topk import TopK
from fedn.models.pieces import Pieces
from fedn.models.wire import DTYPES, decode, read_spec
from fedn.models.wire import encode as to_bytes
from fedn.protocol.errors import InvalidInput, UpdateRefused
from tests.support.sums import whole_result

_BASE_ID = "blake3:" + "1" * 64
_CHAINS = [
    [BFloat16()],
    [Float16()],
    [Int8()],
    [Delta()],
    [Delta(), BFloat16()],
    [Delta(), TopK(fraction=0.1)],
    [Delta(), TopK(fraction=0.1), Int8()],
]


def _tensors(seed):
    rng = np.random.default_rng(seed)
    return {
        "w": rng.standard_normal((300, 301)).astype(np.float32),
        "b": rng.standard_normal(301).astype(np.float32),
        "d": rng.standard_normal(7),
        "h": rng.standard_normal(70_000).astype(np.float16),
        "x": rng.standard_normal(70_000).astype(DTYPES["BF16"]),
        "n": rng.integers(-100, 100, 5),
        "t": rng.integers(0, 2, 9).astype(bool),
        "e": np.zeros((0, 3), np.float32),
    }


def _cut(data, size):
    """As it arrives: in pieces, which end anywhere."""
    return Pieces([memoryview(data)[start : start + size] for start in range(0, len(data), size)])


def _values(payload, name):
    """All values of a tensor of a payload, flat, in float64."""
    source = payload.sources.get(name)
    if source is None:
        return np.concatenate([np.empty(0), *(values for _, values in payload.elements(name))]).astype(np.float64)
    out = np.empty(payload.base.by_name[name].size, np.float32)
    for start, stop in pieces(len(out)):
        source.read(start, stop, out[start:stop])
    return out.astype(np.float64)


@pytest.mark.parametrize("codecs", _CHAINS, ids=lambda codecs: "+".join(codec.name for codec in codecs))
@pytest.mark.parametrize("sum_dtype", ["float64", "float32"])
def test_encoded_updates_add_up_to_the_sum_of_their_values(codecs, sum_dtype):
    base = to_bytes(_tensors(0))
    spec, chain = read_spec(base), Chain(codecs)
    encoding = chain.of(spec, _BASE_ID)
    form = "delta" if chain.difference else "model"
    start = {name: array.reshape(-1) for name, array in decode(base).items()} if chain.difference else None
    encoded, plain = Accumulator(spec, sum_dtype, base), Accumulator(spec, sum_dtype, base)
    expected = {name: np.zeros(info.size) for name, info in spec.by_name.items()}
    for seed, weight in ((1, 1.0), (2, 3.5), (3, 17.0)):
        data = encode(encoding, _tensors(seed), start=start)
        payload = Payload(encoding, _cut(data, 9_999))
        encoded.add_encoded(payload, weight, form=form)
        if payload.plain:
            plain.add(data, payload.spec, weight, form=form)
        for name in expected:
            expected[name] += weight * _values(payload, name)
    assert (encoded.weight, encoded.count) == (21.5, 3)
    assert payload.plain == (chain.selection is None and not isinstance(chain.numbers, Int8))
    for name, mean in decode(whole_result(encoded)).items():
        origin = decode(base)[name].reshape(-1).astype(np.float64)
        added = origin if form == "delta" and mean.dtype != bool and name not in {"n", "t"} else 0.0
        exact = ((added * 21.5 + expected[name]) / 21.5).astype(mean.dtype).reshape(mean.shape)
        if sum_dtype == "float64":
            np.testing.assert_array_equal(mean, exact)
        else:
            np.testing.assert_allclose(mean, exact, rtol=1e-5, atol=1e-6)
    if payload.plain:
        assert whole_result(plain) == whole_result(encoded)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_halves_are_added_exactly(dtype, weight):
    base = to_bytes({"w": np.zeros(1 << 16, np.float32)})
    halves = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[dtype])
    halves = halves[np.isfinite(halves.astype(np.float32))]
    spec = read_spec(to_bytes({"w": np.zeros(len(halves), np.float32)}))
    total = Accumulator(spec)
    update = to_bytes({"w": halves})
    total.add(update, read_spec(update), weight)
    total.add(update, read_spec(update), weight)
    assert len(base) > len(update)
    np.testing.assert_array_equal(decode(whole_result(total))["w"], halves.astype(np.float32))


def test_infinite_halves_show_in_the_result():
    spec = read_spec(to_bytes({"w": np.zeros(3, np.float32)}))
    for bad in (np.inf, -np.inf, np.nan):
        update = to_bytes({"w": np.array([1, bad, 2], np.float16)})
        total = Accumulator(spec)
        total.add(update, read_spec(update), 1.0)
        with pytest.raises(InvalidInput, match="not finite"):
            whole_result(total)


def test_another_base_or_a_bad_weight_adds_nothing():
    chain = Chain([Int8()])
    tensors = {"w": np.ones(5, np.float32)}
    spec = read_spec(to_bytes(tensors))
    payload = Payload(chain.of(spec, _BASE_ID), encode(chain.of(spec, _BASE_ID), tensors))
    other = Accumulator(read_spec(to_bytes({"w": np.ones(6, np.float32)})))
    with pytest.raises(UpdateRefused, match="shape"):
        other.add_encoded(payload, 1.0)
    same = Accumulator(spec)
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="weight"):
            same.add_encoded(payload, weight)
    with pytest.raises(InvalidInput, match="bytes of their base"):
        same.add_encoded(payload, 1.0, form="delta")
    assert (other.count, same.count) == (0, 0)
