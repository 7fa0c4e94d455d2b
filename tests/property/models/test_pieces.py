"""Bytes in pieces read as the same bytes in one."""

import itertools
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedn.models.pieces import Pieces


@st.composite
def cut_bytes(draw: st.DrawFn) -> tuple[bytes, Pieces]:
    data = draw(st.binary(max_size=400))
    cuts = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=8))})
    return data, Pieces([memoryview(data)[start:stop] for start, stop in itertools.pairwise(cuts)])


@given(cut_bytes(), st.integers(0, 400), st.integers(0, 400))
def test_any_range_is_the_same_bytes(case: tuple[bytes, Pieces], start: int, stop: int) -> None:
    data, pieces = case
    assert len(pieces) == len(data)
    assert pieces.copy() == data
    assert pieces.copy(start, stop) == data[start:stop]


@given(cut_bytes(), st.sampled_from(["<f4", "<f8", "<i2", "|u1"]), st.data())
def test_elements_are_the_same_wherever_the_pieces_end(
    case: tuple[bytes, Pieces], code: str, data: st.DataObject
) -> None:
    whole, pieces = case
    dtype: np.dtype[Any] = np.dtype(code)
    start = data.draw(st.integers(0, len(whole)))
    size = data.draw(st.integers(0, (len(whole) - start) // dtype.itemsize))
    found = np.zeros(size, dtype)
    seen = 0
    for first, values in pieces.elements(dtype, start, size):
        assert first == seen
        found[first : first + len(values)] = values
        seen += len(values)
    assert seen == size
    assert found.tobytes() == whole[start : start + size * dtype.itemsize]


def test_parts_that_were_read_to_their_end_are_told() -> None:
    passed: list[tuple[int, int]] = []
    pieces = Pieces(
        [memoryview(bytes(8)), memoryview(bytes(4)), memoryview(bytes(8))], lambda *part: passed.append(part)
    )
    list(pieces.elements(np.dtype("<f4"), 4, 3))
    assert passed == [(0, 8), (8, 12)]
