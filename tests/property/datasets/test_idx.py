"""idx files come back as they were written; damaged and hostile ones are refused, and cost little."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedn.datasets.idx import decode_idx, encode_idx, read_idx, read_unpacked, unpack
from fedn.protocol.errors import FednError, InvalidInput, LimitExceeded

arrays = hnp.arrays(
    st.sampled_from(["u1", "i1", "<i2", ">i2", "<i4", ">i4", "<f4", ">f4", "<f8", ">f8"]),
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
)


def array_or_code(content: bytes | bytearray) -> Any:
    """What the bytes, gzipped or not, are read as, or the code of the error."""
    try:
        return decode_idx(unpack(io.BytesIO(content), source="test"))
    except FednError as error:
        return error.code


@given(arrays, st.booleans())
def test_an_array_comes_back_as_it_went_in(array: Any, packed: bool) -> None:
    content = encode_idx(array, packed=packed)
    found = decode_idx(unpack(io.BytesIO(content), source="test"))
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    assert encode_idx(found, packed=packed) == content


def test_the_format_is_that_of_mnist() -> None:
    content = bytes.fromhex("00000803 00000001 00000002 00000003 000102030405".replace(" ", ""))
    np.testing.assert_array_equal(decode_idx(content), [[[0, 1, 2], [3, 4, 5]]])
    assert decode_idx(bytes.fromhex("00000b01 00000002 0001fffe".replace(" ", ""))).tolist() == [1, -2]


@given(arrays, st.data())
def test_a_file_that_is_cut_short_or_goes_on_is_refused(array: Any, data: st.DataObject) -> None:
    content = encode_idx(array)
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    for damaged in (cut, content + data.draw(st.binary(min_size=1, max_size=20))):
        with pytest.raises(InvalidInput) as caught:
            decode_idx(damaged)
        assert caught.value.code == "bad_idx_file"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_array_of_their_size_or_refused(content: bytes) -> None:
    found = array_or_code(content)
    assert found == "bad_idx_file" if isinstance(found, str) else 4 + 4 * found.ndim + found.nbytes == len(content)


@given(arrays, st.data())
def test_a_damaged_gzipped_file_is_refused_or_the_same(array: Any, data: st.DataObject) -> None:
    content = bytearray(encode_idx(array, packed=True))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    found = array_or_code(content)
    if isinstance(found, str):
        assert found == "bad_idx_file"
    else:  # gzip's own header has bytes that mean nothing here, such as the time
        assert place < 10
        np.testing.assert_array_equal(found, array)


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    with pytest.raises(InvalidInput, match="take"):
        decode_idx(struct.pack(">HBB3I", 0, 0x0E, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    with pytest.raises(InvalidInput, match="200 dimensions"):
        decode_idx(struct.pack(">HBB", 0, 8, 200) + bytes(800))


def test_a_bomb_is_unpacked_no_further_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(LimitExceeded) as caught:
        read_unpacked(tmp_path / "bomb.gz", max_bytes=1000)
    assert caught.value.code == "idx_file_too_large"
    (tmp_path / "plain").write_bytes(bytes(1001))
    with pytest.raises(LimitExceeded):
        read_unpacked(tmp_path / "plain", max_bytes=1000)
    assert len(read_unpacked(tmp_path / "plain", max_bytes=1001)) == 1001


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no plain file"):
        read_idx(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "missing")


@pytest.mark.parametrize("array", [np.zeros(3, np.int64), np.zeros((), np.uint8), np.zeros(3, bool)])
def test_what_the_format_cannot_hold_is_not_written(array: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be one"):
        encode_idx(array)
