"""Codecs one by one: their options, what they refuse, and the order in a chain."""

import json
import struct

import numpy as np
import pytest
import zstandard

from fedn.models.codecs.cast import BFloat16, Float16
from fedn.models.codecs.chain import Chain
from fedn.models.codecs.delta import Delta
from fedn.models.codecs.encode import encode
from fedn.models.codecs.int8 import Int8
from fedn.models.codecs.payload import Payload, read_model, unpack
from fedn.models.codecs.topk import TopK
from fedn.models.codecs.zstd import Zstd
from fedn.models.wire import decode, read_spec, view
from fedn.models.wire import encode as to_bytes
from fedn.protocol.errors import InvalidInput, UpdateRefused

_BASE_ID = "blake3:" + "1" * 64
_CHAIN = Chain([Delta(), TopK(fraction=0.1), Int8()])


def _spec(tensors):
    return read_spec(to_bytes(tensors))


def _values(size=200_000, seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def _encoded(chain, tensors, **options):
    return encode(chain.of(_spec(tensors), _BASE_ID), tensors, **options)


def _opened(chain, data, tensors):
    encoding = chain.of(_spec(tensors), _BASE_ID)
    return Payload(encoding, unpack(encoding, data))


def _part(data, name):
    """A stored array of a payload, writable."""
    return view(data, read_spec(data).by_name[name]).reshape(-1)


@pytest.mark.parametrize(
    ("codecs", "words"),
    [
        ([BFloat16(), Float16()], "same kind"),
        ([Zstd(), Int8()], "int8 cannot come after zstd"),
        ([TopK(), Delta()], "delta cannot come after topk"),
        (
            [Int8(), TopK(), Delta(), Delta()],
            "topk cannot come after int8; delta cannot come after topk; delta and delta",
        ),
    ],
)
def test_a_chain_in_another_order_is_refused_with_all_its_faults(codecs, words):
    with pytest.raises(InvalidInput) as refused:
        Chain(codecs)
    assert refused.value.code == "bad_chain"
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        (TopK, {"fraction": 0}),
        (TopK, {"fraction": 0.6}),
        (TopK, {"fraction": float("nan")}),
        (TopK, {"fraction": "much"}),
        (TopK, {"fraction": True}),
        (TopK, {"error_feedback": 1}),
        (Int8, {"error_feedback": "yes"}),
        (Zstd, {"level": 0}),
        (Zstd, {"level": 20}),
        (Zstd, {"level": 3.0}),
        (Zstd, {"level": True}),
    ],
)
def test_options_out_of_their_range_are_refused(codec, options):
    with pytest.raises(InvalidInput) as refused:
        codec(**options)
    assert refused.value.code == "bad_codec_option"
    assert refused.value.where["option"] == next(iter(options))


@pytest.mark.parametrize("codec", [Float16, BFloat16, Int8, TopK, Delta, Zstd])
def test_unknown_options_are_refused(codec):
    with pytest.raises(InvalidInput, match="has no option colour") as refused:
        codec(colour="red")
    assert refused.value.code == "unknown_option"


def test_the_text_of_a_chain_has_all_options():
    assert json.loads(Chain([Delta(), TopK(fraction=0.25), Zstd()]).text) == [
        {"name": "delta", "options": {}},
        {"name": "topk", "options": {"error_feedback": True, "fraction": 0.25}},
        {"name": "zstd", "options": {"level": 1}},
    ]


def test_side_parts_get_names_that_the_model_does_not_have():
    tensors = {"w": _values(100), "w#scale": _values(3), "w##scale": np.zeros(2, np.int8)}
    names = _spec(tensors).names, Chain([Int8()]).of(_spec(tensors), _BASE_ID).spec.names
    assert names[1] == ("w", "w###scale", "w#scale", "w#scale#scale", "w##scale")
    back = _opened(Chain([Int8()]), _encoded(Chain([Int8()]), tensors), tensors)
    assert tuple(decode(back.decode())) == names[0]


def test_casts_leave_what_is_narrow_already():
    tensors = {"f": _values(10), "h": _values(10).astype(np.float16)}
    spec = Chain([BFloat16()]).of(_spec(tensors), _BASE_ID).spec
    assert [str(info.dtype) for info in spec.tensors] == ["bfloat16", "float16"]


@pytest.mark.parametrize("codecs", [[Float16()], [BFloat16()], [Int8()], [Delta(), TopK()]])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_not_encoded(codecs, bad):
    values = _values(1000)
    values[777] = bad
    with pytest.raises(InvalidInput) as refused:
        _encoded(Chain(codecs), {"w": values})
    assert refused.value.code == "values_out_of_range"


def test_values_beyond_float16_are_not_encoded_and_bfloat16_is_named():
    with pytest.raises(InvalidInput, match="bfloat16"):
        _encoded(Chain([Float16()]), {"w": np.array([70_000.0], np.float32)})
    _encoded(Chain([BFloat16()]), {"w": np.array([70_000.0], np.float32)})


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 3e38])
def test_scales_that_make_no_finite_values_are_refused(scale):
    tensors = {"w": _values()}
    data = _encoded(Chain([Int8()]), tensors)
    _part(data, "w#scale")[0] = scale
    with pytest.raises(UpdateRefused, match="scale") as refused:
        _opened(Chain([Int8()]), data, tensors)
    assert refused.value.code == "bad_encoding"


def test_an_integer_that_int8_never_writes_is_refused():
    tensors = {"w": _values()}
    data = _encoded(Chain([Int8()]), tensors)
    _part(data, "w")[123] = -128
    with pytest.raises(UpdateRefused, match="below -127"):
        _opened(Chain([Int8()]), data, tensors)


def _swap(places):
    places[[10, 11]] = places[[11, 10]]


def _twice(places):
    places[11] = places[10]


def _beyond(places):
    places[-1] = 200_000 - 3 * 65_536


@pytest.mark.parametrize(
    ("change", "words"), [(_swap, "do not ascend"), (_twice, "do not ascend"), (_beyond, "outside its tensor")]
)
def test_places_that_do_not_ascend_or_lie_outside_are_refused(change, words):
    tensors = {"w": _values()}
    data = _encoded(_CHAIN, tensors)
    change(_part(data, "w#places"))
    with pytest.raises(UpdateRefused, match=words) as refused:
        _opened(_CHAIN, data, tensors)
    assert refused.value.code == "bad_encoding"


@pytest.mark.parametrize("change", [(1, 0, 0, 0), (1, -1, 0, 0), (2**32 - 20_000, 0, 0, 0), (0, 0, 0, 20_000)])
def test_counts_that_do_not_fit_the_places_are_refused(change):
    tensors = {"w": _values()}
    data = _encoded(_CHAIN, tensors)
    counts = _part(data, "w#counts")
    counts[:] = (counts.astype(np.int64) + change) % 2**32
    with pytest.raises(UpdateRefused) as refused:
        _opened(_CHAIN, data, tensors)
    assert refused.value.code == "bad_encoding"


def test_all_of_a_tensor_in_one_block_is_read_as_it_was():
    values, chain = np.zeros(200_000, np.float32), Chain([Delta(), TopK(fraction=0.1)])
    values[65_536:85_536] = _values(20_000)
    payload = _opened(chain, _encoded(chain, {"w": values}), {"w": values})
    np.testing.assert_array_equal(decode(payload.decode())["w"], values)


def test_another_chain_base_shape_or_dtype_is_refused_with_what_is_wrong():
    tensors = {"w": _values(100)}
    cases = [
        (_encoded(Chain([BFloat16()]), tensors), "fedn.chain"),
        (encode(Chain([Int8()]).of(_spec(tensors), "blake3:" + "2" * 64), tensors), "fedn.base"),
        (_encoded(Chain([Int8()]), {"w": _values(99)}), "has shape"),
        (_encoded(Chain([Int8()]), {"v": _values(100)}), "is missing"),
        (to_bytes(tensors), "fedn.chain"),
    ]
    for data, words in cases:
        with pytest.raises(UpdateRefused, match=words) as refused:
            _opened(Chain([Int8()]), data, tensors)
        assert refused.value.code == "update_does_not_fit"


def test_a_frame_that_unpacks_to_too_much_is_refused_before_it_is_unpacked():
    tensors = {"w": _values(100)}
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 30))
    assert len(bomb) < 1 << 17
    with pytest.raises(UpdateRefused, match="unpacks to 1073741824 bytes"):
        _opened(Chain([Zstd()]), bomb, tensors)
    with pytest.raises(UpdateRefused, match="unpacks to 1073741824 bytes"):
        read_model(Chain([Zstd()]), bomb, max_bytes=1 << 20)


def test_a_frame_that_lies_about_its_size_is_refused():
    packer = zstandard.ZstdCompressor(write_content_size=True)
    frame = bytearray(packer.compress(np.random.default_rng(0).bytes(1000)))
    assert zstandard.get_frame_parameters(bytes(frame)).content_size == 1000
    place = frame.index(struct.pack("<H", 1000 - 256), 4)
    for said in (900, 1100):
        frame[place : place + 2] = struct.pack("<H", said - 256)
        out = bytearray(Zstd().unpacked_bytes(bytes(frame)))
        assert len(out) == said
        with pytest.raises(UpdateRefused, match=r"more than it says|ends after|damaged"):
            Zstd().decompress(bytes(frame), memoryview(out))


@pytest.mark.parametrize("damage", [lambda f: f[:-1], lambda f: f + b"x", lambda f: f + f, lambda f: f[:20]])
def test_a_frame_that_is_cut_off_or_followed_by_more_is_refused(damage):
    frame = Zstd().compress(_values(1000).tobytes())
    with pytest.raises(UpdateRefused, match="one whole frame"):
        Zstd().decompress(damage(frame), memoryview(bytearray(4000)))


def test_a_frame_without_its_size_is_refused():
    packer = zstandard.ZstdCompressor(write_content_size=False)
    with pytest.raises(UpdateRefused, match="does not say"):
        Zstd().unpacked_bytes(packer.compress(b"abc"))


def test_float64_and_half_tensors_come_back_in_their_own_dtypes():
    tensors = {"d": np.linspace(-1, 1, 50), "h": np.linspace(-1, 1, 50).astype(np.float16)}
    for codecs in ([Int8()], [BFloat16()], [Float16()], [Delta(), TopK(fraction=0.2)]):
        back = decode(_opened(Chain(codecs), _encoded(Chain(codecs), tensors), tensors).decode())
        assert [array.dtype for array in back.values()] == [np.float64, np.float16]


def test_arrays_in_any_layout_are_encoded_alike():
    values = _values(1200).reshape(30, 40)
    assert _encoded(_CHAIN, {"w": np.asfortranarray(values)}) == _encoded(_CHAIN, {"w": values})


def test_a_lossless_chain_gives_the_model_with_its_metadata():
    data = to_bytes({"w": _values(100), "n": np.arange(4)}, {"made by": "test"})
    spec = read_spec(data)
    packed = encode(Chain([Zstd()]).of(spec, _BASE_ID), decode(data))
    assert read_model(Chain([Zstd()]), packed, max_bytes=1 << 20)[1].decode() == data


_DESCRIPTIONS = [
    "",
    "[]",
    '{"w":["F31",[4]]}',
    '{"w":["F32",[-4]]}',
    '{"w":["F32"]}',
    '{"w":["F32",[99999999999]]}',
    "{" * 5000,
]


@pytest.mark.parametrize("described", _DESCRIPTIONS)
def test_a_model_that_does_not_say_what_it_stands_for_is_refused(described):
    chain = Chain([BFloat16()])
    metadata = {"fedn.chain": chain.text, "fedn.base": _BASE_ID, "fedn.tensors": described}
    with pytest.raises(InvalidInput) as refused:
        read_model(chain, to_bytes({"w": _values(4)}, metadata), max_bytes=1 << 20)
    assert refused.value.code in {"bad_model", "bad_encoding", "update_does_not_fit"}
