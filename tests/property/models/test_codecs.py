"""What holds for any numbers: error bounds, exactness, error feedback, and payloads that were meant to hurt."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedn.models.codecs.base import Codec, SparseSource, pieces
from fedn.models.codecs.cast import BFloat16, Float16, narrow_bfloat16, widen_bfloat16, widen_float16
from fedn.models.codecs.chain import Chain
from fedn.models.codecs.delta import Delta
from fedn.models.codecs.encode import Feedback, encode
from fedn.models.codecs.int8 import Int8
from fedn.models.codecs.payload import Payload, read_model, unpack
from fedn.models.codecs.topk import TopK
from fedn.models.codecs.zstd import Zstd
from fedn.models.wire import DTYPES, decode, read_spec
from fedn.models.wire import encode as to_bytes
from fedn.protocol.errors import InvalidInput

_BASE_ID = "blake3:" + "0" * 64
_FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


def _vectors(elements=_FLOATS, max_size=200):
    return hnp.arrays(np.float32, st.integers(0, max_size), elements=elements)


@st.composite
def _chains(draw, *, difference=True):
    codecs: list[Codec] = [Delta()] if difference and draw(st.booleans()) else []
    if codecs and draw(st.booleans()):
        codecs.append(TopK(fraction=draw(st.sampled_from([0.001, 0.05, 0.3, 0.5]))))
    numbers = draw(st.sampled_from([None, Float16, BFloat16, Int8]))
    codecs += [numbers()] if numbers is not None else []
    codecs += [Zstd(level=draw(st.integers(1, 3)))] if draw(st.booleans()) else []
    return Chain(codecs)


@st.composite
def _models(draw, elements=None):
    """Tensors of all kinds of dtypes, small and empty ones among them."""
    elements = elements or st.floats(-100, 100, width=16)
    found = {}
    for index in range(draw(st.integers(1, 4))):
        dtype = DTYPES[draw(st.sampled_from(["F16", "BF16", "F32", "F64", "I64", "U8", "BOOL"]))]
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
        values = draw(hnp.arrays(np.float32, shape, elements=elements))
        name = draw(st.sampled_from(["w", "w#scale", "w#counts", "w##scale", "b"])) + str(index) * draw(
            st.integers(0, 1)
        )
        found[name] = values.astype(dtype)
    return found


def _encode(chain, tensors, **options):
    """(base spec, payload bytes)."""
    spec = read_spec(to_bytes(tensors))
    return spec, encode(chain.of(spec, _BASE_ID), tensors, **options)


def _payload(chain, data, spec):
    encoding = chain.of(spec, _BASE_ID)
    return Payload(encoding, unpack(encoding, data))


def _through(chain, values, **options):
    """The values of one tensor after the way there and back."""
    spec, data = _encode(chain, {"w": values}, **options)
    return decode(_payload(chain, data, spec).decode())["w"]


def test_every_float16_is_widened_exactly():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    out = np.empty(len(halves), np.float32)
    for one in (halves[np.isfinite(halves)], halves):
        widen_float16(one, out[: len(one)])
        np.testing.assert_array_equal(out[: len(one)], one.astype(np.float32))


def test_every_bfloat16_is_widened_exactly():
    halves = np.arange(1 << 16, dtype=np.uint16).view(DTYPES["BF16"])
    out = np.empty(len(halves), np.float32)
    widen_bfloat16(halves, out)
    np.testing.assert_array_equal(out, halves.astype(np.float32))


@given(hnp.arrays(np.uint32, st.integers(0, 300), elements=st.integers(0, 2**32 - 1)))
def test_any_bits_are_narrowed_to_the_nearest_bfloat16_or_told_to_be_none(bits):
    values = bits.view(np.float32)
    out, scratch = np.empty(len(bits), DTYPES["BF16"]), np.empty(len(bits), np.uint32)
    with np.errstate(all="ignore"):
        expected = values.astype(DTYPES["BF16"])
        finite = bool(np.isfinite(expected.astype(np.float32)).all())
    assert narrow_bfloat16(values, out, scratch) == finite
    if finite:
        np.testing.assert_array_equal(out.view(np.uint16), expected.view(np.uint16))


@given(_vectors())
def test_bfloat16_keeps_eight_bits_of_each_value(values):
    back = _through(Chain([BFloat16()]), values)
    assert np.all(np.abs(back - values) <= 2.0**-8 * np.abs(values) + 1e-40)


@given(_vectors(st.floats(-65504, 65504, width=32)))
def test_float16_keeps_eleven_bits_of_each_value(values):
    back = _through(Chain([Float16()]), values)
    assert np.all(np.abs(back - values) <= np.maximum(2.0**-11 * np.abs(values), 2.0**-25))


@given(_vectors())
def test_int8_is_off_by_half_its_scale_at_the_most(values):
    back = _through(Chain([Int8()]), values)
    scale = np.abs(values).max(initial=0) / 127
    bound = 0.5001 * scale if scale >= np.finfo(np.float32).tiny else 128 * np.finfo(np.float32).tiny
    assert np.all(np.abs(back - values) <= bound)


@given(_vectors(), st.sampled_from([0.01, 0.1, 0.25, 0.5]))
def test_topk_keeps_the_largest_values_as_they_are_and_the_first_of_equal_ones(values, fraction):
    chain = Chain([Delta(), TopK(fraction=fraction)])
    back = _through(chain, values)
    kept = math.ceil(fraction * len(values))
    if 2 * kept > len(values):
        np.testing.assert_array_equal(back, values)
        return
    order = np.lexsort((np.arange(len(values)), -np.abs(values)))
    expected = np.zeros_like(values)
    expected[order[:kept]] = values[order[:kept]]
    np.testing.assert_array_equal(back, expected)


@given(_vectors(st.floats(-1e3, 1e3, width=32)), st.data())
def test_a_difference_is_exact_near_its_base_and_rounded_once_elsewhere(values, data):
    base = data.draw(hnp.arrays(np.float32, len(values), elements=st.floats(-1e3, 1e3, width=32)))
    difference = _through(Chain([Delta()]), values, start={"w": base})
    exact = values.astype(np.float64) - base
    assert np.all(np.abs(difference - exact) <= 2.0**-24 * np.abs(exact))
    near = (values * base > 0) & (np.abs(values) <= 2 * np.abs(base)) & (np.abs(base) <= 2 * np.abs(values))
    np.testing.assert_array_equal(difference[near], exact[near])


@given(_vectors(st.floats(-1e3, 1e3, width=64)), st.data())
def test_differences_of_float64_are_taken_in_float64(values, data):
    values = values.astype(np.float64) * np.pi
    base = values * (1 + 1e-12)
    difference = _through(Chain([Delta()]), values, start={"w": base})
    np.testing.assert_array_equal(difference, values - base)


@given(_chains(), _models())
def test_whatever_goes_in_comes_out_with_the_base_s_names_shapes_and_dtypes(chain, tensors):
    start = {name: np.zeros(array.size, array.dtype) for name, array in tensors.items()} if chain.difference else None
    spec, data = _encode(chain, tensors, start=start)
    back = decode(_payload(chain, data, spec).decode())
    assert [(name, array.shape, array.dtype) for name, array in back.items()] == [
        (name, array.shape, array.dtype) for name, array in tensors.items()
    ]
    for name, array in tensors.items():
        if array.dtype.kind in "iub" or chain.lossless:
            np.testing.assert_array_equal(back[name], array)


@given(_chains(), _models())
def test_encoding_repeats_to_the_bit(chain, tensors):
    assert _encode(chain, tensors)[1] == _encode(chain, tensors)[1]


@given(_chains(), _models())
def test_no_payload_is_larger_than_the_chain_says(chain, tensors):
    spec, data = _encode(chain, tensors)
    assert len(data) <= chain.of(spec, _BASE_ID).max_bytes


@given(_chains(difference=False), _models())
def test_an_encoded_model_describes_itself(chain, tensors):
    spec, data = _encode(chain, tensors)
    base_id, payload = read_model(chain, data, max_bytes=1 << 20)
    assert base_id == _BASE_ID
    assert [(t.name, t.dtype, t.shape) for t in payload.base.tensors] == [
        (t.name, t.dtype, t.shape) for t in spec.tensors
    ]
    assert payload.decode() == _payload(chain, data, spec).decode()


@given(
    _vectors(max_size=50),
    st.sampled_from([[TopK(fraction=0.1)], [Int8()], [TopK(fraction=0.3), Int8()], [TopK(fraction=0.2), BFloat16()]]),
)
def test_what_an_update_leaves_out_is_exactly_what_the_feedback_keeps(values, codecs):
    chain = Chain([Delta(), *codecs])
    before = (values[::-1] * np.float32(0.25)).copy()
    after = np.full(len(values), np.nan, np.float32)
    encoding = chain.of(read_spec(to_bytes({"w": values})), _BASE_ID)
    assert encoding.feedback_size == (len(values) if encoding.coded else 0)
    if not encoding.coded:
        return
    sent = _through(chain, values, feedback=Feedback(before, after))
    np.testing.assert_array_equal(after, (values + before) - sent)


@given(st.sampled_from([[TopK(fraction=0.05)], [Int8()], [TopK(fraction=0.1), Int8()]]), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_sum_of_error_fed_updates_follows_the_sum_of_the_true_ones(codecs, seed):
    """What is missing from the sum is the last residual, which stays bounded while the sum grows."""
    rng = np.random.default_rng(seed)
    chain, size = Chain([Delta(), *codecs]), 400
    drift = rng.standard_normal(size).astype(np.float32)
    true, sent = np.zeros(size), np.zeros(size)
    before, missing = None, []
    for _ in range(120):
        update = drift + rng.standard_normal(size).astype(np.float32)
        after = np.empty(size, np.float32)
        sent += _through(chain, update, feedback=Feedback(before, after))
        true += update
        before = after
        np.testing.assert_allclose(true - sent, after, atol=1e-2)
        missing.append(np.linalg.norm(true - sent))
    assert max(missing[60:]) <= 1.5 * max(missing[:60])
    assert missing[-1] < 0.5 * np.linalg.norm(true)
    without = sum(_through(chain, drift) for _ in range(120))
    assert np.linalg.norm(true - sent) < np.linalg.norm(true - without) or chain.selection is None


@given(st.integers(1, 200_000), st.sampled_from([0.001, 0.01, 0.3]), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=25)
def test_any_range_of_a_sparse_tensor_can_be_read(size, fraction, seed, data):
    values = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    chain = Chain([Delta(), TopK(fraction=fraction), Int8()])
    spec, encoded = _encode(chain, {"w": values})
    payload = _payload(chain, encoded, spec)
    whole = decode(payload.decode())["w"]
    source = payload.sources["w"]
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, min(size, start + 65_536)))
    out = np.full(stop - start, np.nan, np.float32)
    source.read(start, stop, out)
    np.testing.assert_array_equal(out, whole[start:stop])
    if isinstance(source, SparseSource):
        positions, found = source.nonzero(start, stop)
        assert np.all(np.diff(positions) > 0)
        dense = np.zeros(stop - start, np.float32)
        dense[positions] = found
        np.testing.assert_array_equal(dense, out)


def _refusal_or_payload(encoding, data):
    try:
        unpacked = unpack(encoding, data)
        assert len(unpacked) <= max(encoding.spec.size_bytes + (1 << 20), len(data))
        return unpacked, Payload(encoding, unpacked)
    except InvalidInput as error:
        return error


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(3)
    return {
        "w": rng.standard_normal((40, 5)).astype(np.float32),
        "n": np.arange(3),
        "h": rng.random(9).astype(np.float16),
    }


@given(data=st.data(), chain=_chains())
@settings(max_examples=300)
def test_hostile_payloads_are_refused_or_finite(sample, chain, data):
    """Whatever bytes are changed, cut off or added: a refusal with a reason, or numbers that are finite."""
    spec, encoded = _encode(chain, sample)
    hostile = bytearray(encoded)
    start = 8 + int.from_bytes(encoded[:8], "little") if chain.bytes is None and data.draw(st.booleans()) else 0
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(start, len(hostile) - 1))
        hostile[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, *range(256)]))
    if data.draw(st.booleans()):
        hostile = hostile[: data.draw(st.integers(0, len(hostile)))] + data.draw(st.binary(max_size=20))
    opened = _refusal_or_payload(chain.of(spec, _BASE_ID), hostile)
    if isinstance(opened, InvalidInput):
        assert opened.code in {"bad_encoding", "bad_model", "update_does_not_fit"}
        assert opened.message
        return
    unpacked, payload = opened
    # Floating-point numbers in a payload are checked where it arrives; here they stand for what passed.
    for info in payload.spec.tensors:
        stored = np.frombuffer(unpacked, info.dtype, info.size, info.start)
        if info.dtype.kind in "fV" and not np.isfinite(stored.astype(np.float64)).all():
            return
    for name, array in decode(payload.decode()).items():
        assert array.shape == sample[name].shape
        if array.dtype.kind == "f":
            assert np.isfinite(array.astype(np.float64)).all() or array.dtype == np.float16  # wider than its base


@given(st.binary(max_size=400), _chains())
def test_any_bytes_are_refused_with_a_reason(data, chain):
    spec = read_spec(to_bytes({"w": np.zeros(10, np.float32)}))
    encoding = chain.of(spec, _BASE_ID)
    with pytest.raises(InvalidInput):
        Payload(encoding, unpack(encoding, data))
    with pytest.raises(InvalidInput):
        read_model(chain, data, max_bytes=1 << 20)


def test_pieces_cover_every_element_once():
    for size in (0, 1, 65_535, 65_536, 65_537, 200_000):
        covered = [index for start, stop in pieces(size) for index in range(start, stop)]
        assert covered == list(range(size))
        assert all(0 < stop - start <= 65_536 for start, stop in pieces(size))
