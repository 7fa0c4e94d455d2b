"""The checks of an upload are the same however its bytes are cut on the way."""

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.combiner.arrival import ArrivalCheck
from fedn.models.digest import digest
from fedn.models.wire import encode, read_spec
from fedn.protocol.errors import FednError

BASE = bytes(encode({"w": np.zeros(33, np.float32), "n": np.zeros(3, np.int64), "h": np.zeros(5, np.float16)}))


def feed(data: bytes, cuts: list[int], **changes: Any) -> ArrivalCheck:
    check = ArrivalCheck(changes.get("object_id", digest(data)), len(data), read_spec(BASE))
    bounds = [0, *sorted({cut for cut in cuts if cut < len(data)} - {0}), len(data)]
    for start, stop in itertools.pairwise(bounds):
        check.feed(start, memoryview(data)[start:stop])
    return check


cut_lists = st.lists(st.integers(1, 600), max_size=12)


@given(cut_lists)
def test_a_good_update_passes_in_any_pieces(cuts: list[int]) -> None:
    assert feed(BASE, cuts).finish() == read_spec(BASE)


@given(cut_lists, st.integers(0, 32), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_value_that_is_not_finite_is_found_in_any_pieces(cuts: list[int], place: int, value: float) -> None:
    array = np.ones(33, np.float32)
    array[place] = value
    data = bytes(encode({"w": array, "n": np.zeros(3, np.int64), "h": np.zeros(5, np.float16)}))
    with pytest.raises(FednError, match="update_not_finite"):
        feed(data, cuts).finish()


@given(cut_lists)
def test_other_bytes_than_announced_are_found_in_any_pieces(cuts: list[int]) -> None:
    with pytest.raises(FednError, match="update_digest_wrong"):
        feed(BASE, cuts, object_id=digest(b"other")).finish()


@given(st.binary(max_size=400), cut_lists)
def test_no_bytes_do_more_than_be_refused(data: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(FednError):
        feed(data, cuts).finish()
        raise AssertionError("random bytes passed")
