"""Sums by several threads: every element once, the same bits, no error lost."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.aggregation import sharing
from fedn.aggregation.accumulator import Accumulator
from fedn.models.pieces import Pieces
from fedn.models.wire import encode, read_spec


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SHARE_ELEMENTS", 5)


def with_threads(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(sharing, "_threads", lambda: count)


@given(size=st.integers(0, 1000), count=st.integers(1, 6))
def test_the_ranges_are_the_whole_without_overlap(size: int, count: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_threads(monkeypatch, count)
        seen: list[tuple[int, int]] = []
        sharing.share(size, lambda start, stop: seen.append((start, stop)))
    assert sorted(element for start, stop in seen for element in range(start, stop)) == list(range(size))
    assert len(seen) <= count


def test_they_work_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with_threads(monkeypatch, 2)
    together = threading.Barrier(2, timeout=60)
    sharing.share(10, lambda start, stop: together.wait() and None)
    assert not together.broken


@pytest.mark.parametrize("failing", [0, 5])
def test_an_error_is_raised_when_all_have_ended(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_threads(monkeypatch, 2)
    together = threading.Barrier(2, timeout=60)
    ended = []

    def work(start: int, stop: int) -> None:
        together.wait()
        if start == failing:
            raise ArithmeticError(start)
        ended.append(start)

    with pytest.raises(ArithmeticError):
        sharing.share(10, work)
    assert ended == [5 - failing]


@given(
    size=st.integers(0, 300),
    pieces=st.integers(1, 40),
    dtype=st.sampled_from(["float16", "float32", "float64", "int32"]),
    sum_dtype=st.sampled_from(["float64", "float32"]),
    weight=st.sampled_from([1.0, 0.3, 117.0]),
    seed=st.integers(0, 99),
)
def test_any_number_of_threads_makes_the_same_sum(
    size: int, pieces: int, dtype: str, sum_dtype: str, weight: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    updates = [
        encode({"a": (random.normal(size=size) * 9).astype(dtype), "b": np.ones(3, np.float32)}) for _ in range(3)
    ]
    spec = read_spec(updates[0])
    step = max(1, len(updates[0]) // pieces)

    def mean(threads: int) -> bytes:
        with pytest.MonkeyPatch.context() as monkeypatch:
            with_threads(monkeypatch, threads)
            total = Accumulator(spec, sum_dtype)
            for update in updates:
                parts = [memoryview(update)[at : at + step] for at in range(0, len(update), step)]
                total.add(Pieces(parts), spec, weight)
            return b"".join(bytes(piece) for piece in total.result())

    assert mean(3) == mean(1)
