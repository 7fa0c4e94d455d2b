"""Memory: bandwidth of the operations that sums are made of, and what first touches of fresh memory cost.

A figure in GB/s counts every byte that is read or written. One thread, unless it says otherwise.
"""

import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmarks.floors.timing import best_s, figure, timed
from benchmarks.results import Row

_VALUES = 32 << 20
"""128 MiB of float32: far over any cache."""
_CHUNK = 32 << 10
_FRESH_BYTES = 256 << 20
_SOURCES_BYTES = 1 << 30
_MIB = 1 << 20

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def measure() -> list[Row]:
    """All figures about memory."""
    return [*_bandwidth(), *_first_touch()]


def accumulate_gb_s(dtype: npt.DTypeLike, values: int = _VALUES, sources: int = 1) -> float:
    """GB/s of y += x in place for so many x of `values` each, all of one dtype, by one thread.

    Two reads and a write of each value. Several x behave as arriving updates do: none of them is in a cache.
    """
    xs = [
        np.ones(values, dtype)
        for _ in range(max(1, min(sources, _SOURCES_BYTES // (values * np.dtype(dtype).itemsize))))
    ]
    y = np.zeros(values, dtype)

    def add_all() -> None:
        for x in xs:
            np.add(y, x, out=y)

    return len(xs) * 3 * y.nbytes / best_s(add_all) / 1e9


def _bandwidth() -> list[Row]:
    x = np.random.default_rng(0).standard_normal(_VALUES, dtype=np.float32)
    y = np.zeros(_VALUES, np.float32)
    wide = np.zeros(_VALUES, np.float64)
    rows = []
    kinds: dict[str, tuple[Callable[[slice], object], float]] = {
        "copy of float32": (lambda part: np.copyto(y[part], x[part]), 2 * y.nbytes),
        "read (sum) of float32": (lambda part: x[part].sum(), x.nbytes),
        "y += x, float32": (lambda part: np.add(y[part], x[part], out=y[part]), 3 * y.nbytes),
        "y += a·x, float32, in chunks": (_scaled_adder(y, x), 3 * y.nbytes),
        "y += x, float64 and float32": (
            lambda part: np.add(wide[part], x[part], out=wide[part]),
            2 * wide.nbytes + x.nbytes,
        ),
        "y += a·x, float64 and float32, in chunks": (_scaled_adder(wide, x), 2 * wide.nbytes + x.nbytes),
    }
    for threads in (1, 2):
        parts = [slice(i * _VALUES // threads, (i + 1) * _VALUES // threads) for i in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            for what, (call, size_bytes) in kinds.items():
                seconds = best_s(partial(_run_parts, pool, call, parts), 5)
                rows.append(figure("memory", f"{what}, {threads} thread(s)", size_bytes / seconds / 1e9, "GB/s"))
    return rows


def _run_parts(pool: ThreadPoolExecutor, call: Callable[[slice], object], parts: list[slice]) -> None:
    list(pool.map(call, parts))


def _scaled_adder(y: Floats, x: Floats) -> Callable[[slice], None]:
    """y += 0.1 · x over a part, 32 Ki values at a time, so that the product stays in cache."""
    factor = y.dtype.type(0.1)

    def add(part: slice) -> None:
        product = np.empty(_CHUNK, y.dtype)
        for start in range(part.start, part.stop, _CHUNK):
            source, target = x[start : min(start + _CHUNK, part.stop)], y[start : min(start + _CHUNK, part.stop)]
            scratch = product[: source.size]
            np.multiply(source, factor, out=scratch)
            np.add(target, scratch, out=target)

    return add


def _first_touch() -> list[Row]:
    source = bytes(_MIB)
    rows = []
    for what, advice in (("4 KiB pages", mmap.MADV_NOHUGEPAGE), ("huge pages", mmap.MADV_HUGEPAGE)):
        seconds = min(_write_fresh(source, advice) for _ in range(3))
        rows.append(figure("first touch", f"write of fresh memory, {what}", _FRESH_BYTES / seconds / 1e9, "GB/s"))
    used = bytearray(_FRESH_BYTES)
    seconds = best_s(lambda: _fill(memoryview(used), source), 3)
    rows.append(figure("first touch", "write of memory used before", _FRESH_BYTES / seconds / 1e9, "GB/s"))
    return rows


def _write_fresh(source: bytes, advice: int) -> float:
    with mmap.mmap(-1, _FRESH_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as fresh:
        fresh.madvise(advice)
        with memoryview(fresh) as view:
            return timed(lambda: _fill(view, source))


def _fill(target: memoryview, source: bytes) -> None:
    for start in range(0, len(target), len(source)):
        target[start : start + len(source)] = source
