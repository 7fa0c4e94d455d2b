import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.models.wire import MAX_HEADER_BYTES, decode, differences, encode, header_size, layout, read_spec
from fedn.protocol.errors import InvalidInput


def raw(header: Any, data: bytes = b"") -> bytes:
    """The bytes of a model with this header, which may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


@pytest.mark.parametrize(
    ("buffer", "reason"),
    [
        pytest.param(b"", "end before its header", id="nothing"),
        pytest.param(b"\0\0\0", "end before its header", id="half a length"),
        pytest.param((100).to_bytes(8, "little") + b"{}", "end before its header", id="header cut off"),
        pytest.param((MAX_HEADER_BYTES + 1).to_bytes(8, "little"), "claims", id="huge header"),
        pytest.param(b"\xff" * 8, "claims", id="largest length"),
        pytest.param(raw(b""), "not a JSON object", id="empty header"),
        pytest.param(raw([]), "not a JSON object", id="a list"),
        pytest.param(raw(b" {}"), "not a JSON object", id="space before the brace"),
        pytest.param(raw(b"{"), "not JSON", id="broken JSON"),
        pytest.param(raw(b'{"a":' * 100_000), "not JSON", id="deeply nested"),
        pytest.param(raw(b'{"\xff": 1}'), "not JSON", id="not UTF-8"),
        pytest.param(raw(b'{"\\ud800": {"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'), "Unicode", id="surrogate"),
        pytest.param(raw(b'{"a": {"dtype":"F32"}, "a": {}}'), "key 'a' twice", id="name twice"),
        pytest.param(raw(b'{"a": {"dtype":"F32","dtype":"F64"}}'), "key 'dtype' twice", id="field twice"),
        pytest.param(raw({"a": 1}), "must have exactly", id="entry is a number"),
        pytest.param(raw({"a": {"dtype": "F32", "shape": [1]}}), "must have exactly", id="no offsets"),
        pytest.param(raw({"a": entry(more=1)}, b"0000"), "must have exactly", id="unknown field"),
        pytest.param(raw({"a": entry("F8_E4M3")}, b"0000"), "unknown dtype", id="unknown dtype"),
        pytest.param(raw({"a": entry(["F32"])}, b"0000"), "unknown dtype", id="dtype is a list"),
        pytest.param(raw({"a": entry(shape=[-1])}, b"0000"), "not a list of at most", id="negative size"),
        pytest.param(raw({"a": entry(shape=[1.0])}, b"0000"), "not a list of at most", id="float size"),
        pytest.param(raw({"a": entry(shape=[True])}, b"0000"), "not a list of at most", id="bool size"),
        pytest.param(raw({"a": entry(shape=1)}, b"0000"), "not a list of at most", id="shape is a number"),
        pytest.param(raw({"a": entry(shape=[1] * 33)}, b"0000"), "not a list of at most", id="33 dimensions"),
        pytest.param(raw({"a": entry(shape=[2**64])}, b"0000"), "not a list of at most", id="size over 64 bits"),
        pytest.param(raw({"a": entry(shape=[2**62, 2**62])}, b"0000"), "too large", id="product overflows"),
        pytest.param(raw({"a": entry(shape=[0, 2**62, 2], offsets=[0, 0])}), "too large", id="empty but too large"),
        pytest.param(raw({"a": entry(offsets=[0])}, b"0000"), "not two byte positions", id="one offset"),
        pytest.param(raw({"a": entry(offsets=[-4, 0])}, b"0000"), "not two byte positions", id="negative offset"),
        pytest.param(raw({"a": entry(offsets=[0, 8])}, b"0" * 8), "does not fill", id="span too large"),
        pytest.param(raw({"a": entry(offsets=[4, 0])}, b"0000"), "does not fill", id="offsets swapped"),
        pytest.param(raw({"a": entry(offsets=[4, 8])}, b"0" * 8), "leaves a hole", id="hole at the start"),
        pytest.param(raw({"a": entry(), "b": entry()}, b"0000"), "overlaps", id="two on the same bytes"),
        pytest.param(raw({"a": entry()}, b"0" * 5), "ends? at byte", id="bytes left over"),
        pytest.param(raw({"a": entry()}, b"000"), "ends? at byte", id="bytes missing"),
        pytest.param(raw({"__metadata__": {"a": 1}}), "object of strings", id="metadata of numbers"),
        pytest.param(raw({"__metadata__": []}), "object of strings", id="metadata is a list"),
    ],
)
def test_hostile_bytes_are_refused_with_the_reason(buffer: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        read_spec(buffer)
    assert caught.value.code == "bad_model"


def test_a_header_with_endless_digits_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_spec(raw(b'{"a": {"dtype":"F32","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,4]}}'))
    assert caught.value.code == "bad_model"


def test_the_fault_names_the_tensor() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_spec(raw({"good": entry(), "bad": entry(offsets=[8, 12])}, b"0" * 12))
    assert caught.value.where == {"tensor": "bad"}


def test_data_is_aligned_whatever_the_names_and_dtypes() -> None:
    model = {
        "flag": np.array([True]),
        "small": np.float16([1]),
        "long name" * 9: np.float64([1, 2]),
        "x": np.float32(3),
    }
    spec = read_spec(encode(model))
    assert min(tensor.start for tensor in spec.tensors) % 64 == 0
    assert all(tensor.start % tensor.dtype.itemsize == 0 for tensor in spec.tensors)
    assert spec.names == tuple(model)
    assert [tensor.name for tensor in spec.stored_order] == ["long name" * 9, "x", "small", "flag"]
    assert spec.num_parameters == 5


def test_decode_gives_read_only_views_of_the_buffer() -> None:
    buffer = encode({"a": np.zeros(3, np.float32)})
    array = decode(buffer)["a"]
    assert not array.flags.writeable
    buffer[-4:] = np.float32(7).tobytes()
    assert array[2] == 7


def test_a_mapped_file_is_decoded_in_place(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(encode({"a": np.arange(5)}))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        tensors = decode(mapped)
        assert tensors["a"].tolist() == [0, 1, 2, 3, 4]
        del tensors


def test_metadata_is_sorted_so_that_equal_models_have_equal_bytes() -> None:
    model = {"a": np.zeros(1)}
    one = encode(model, {"x": "1", "y": "2"})
    assert one == encode(model, {"y": "2", "x": "1"})
    assert read_spec(one).metadata == {"x": "1", "y": "2"}
    assert encode(model, {}) == encode(model)


def test_arrays_of_any_memory_layout_are_stored_row_by_row() -> None:
    array = np.arange(24, dtype=">i4").reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    stored = decode(encode({"a": array}))["a"]
    assert stored.dtype == np.dtype("<i4")
    np.testing.assert_array_equal(stored, array)


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([1j]), np.array([None]), np.array([1], np.longdouble)])
def test_other_dtypes_are_refused(array: Any) -> None:
    with pytest.raises(InvalidInput, match="models hold only"):
        encode({"a": array})


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_names_that_the_format_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode({name: np.zeros(1)})
    assert caught.value.code == "bad_model"


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="two tensors"):
        layout([("a", np.dtype(np.float32), (1,)), ("a", np.dtype(np.float32), (2,))])


def test_the_spec_is_known_when_the_header_is_there() -> None:
    buffer = encode({"a": np.zeros((100, 100))})
    assert header_size(buffer[:7]) is None
    size = header_size(buffer[:8])
    assert size is not None
    spec = read_spec(buffer[:size], size_bytes=len(buffer))
    assert spec == read_spec(buffer)
    with pytest.raises(InvalidInput, match="end before its header"):
        read_spec(buffer[: size - 1], size_bytes=len(buffer))
    with pytest.raises(InvalidInput, match="tensors end at byte"):
        read_spec(buffer[:size], size_bytes=len(buffer) + 1)


def test_differences_names_every_fault() -> None:
    base = read_spec(encode({"a": np.zeros(1), "b": np.zeros((2, 3)), "c": np.zeros(1, np.float32)}))
    other = read_spec(encode({"b": np.zeros((3, 2)), "c": np.zeros(1, np.float16), "d": np.zeros(1)}))
    assert differences(base, base) == []
    assert differences(other, base) == [
        "tensor 'a' is missing",
        "tensor 'b' has shape (3, 2) instead of (2, 3)",
        "tensor 'c' has dtype float16 instead of float32",
        "tensor 'd' is not in the base model",
    ]


def test_differences_ignore_layout_and_metadata() -> None:
    base = read_spec(encode({"a": np.zeros(1), "b": np.zeros(2)}))
    other = read_spec(encode({"b": np.zeros(2), "a": np.zeros(1)}, {"k": "v"}))
    assert differences(other, base) == []
