"""The arithmetic of sums and means over flat arrays, and the one place that says what a mean is for each dtype.

A mean is taken per element, in float64 (float32 for tensors of up to 32 bits where the sum's dtype is float32). At a
combiner it stays exact enough to be averaged again (`mean_dtype`). In the global model it returns to the base's dtype:

- floating point: rounded to nearest;
- integers: rounded to nearest, halves to even, then clipped to the dtype's range;
- bool: true where the mean is at least 0.5.

Every function works in pieces that stay in the processor's cache, allocates nothing of the arrays' size, and spends
its time in NumPy loops that release the GIL.
"""

from collections.abc import Callable, Iterator

import numpy as np

from fedn.models.codecs.base import PIECE, Flat, Source, SparseSource, pieces
from fedn.models.codecs.cast import widen_bfloat16, widen_float16
from fedn.models.wire import DTYPES, DType
from fedn.protocol.errors import InvalidInput

__all__ = ["PIECE", "Flat", "add_scaled", "add_source", "is_floating", "mean_dtype", "store_mean", "store_scaled"]

_SINGLE = DTYPES["F32"]
_DOUBLE = DTYPES["F64"]
_WIDEN: dict[DType, Callable[[Flat, Flat], object]] = {
    DTYPES["F16"]: widen_float16,
    DTYPES["BF16"]: widen_bfloat16,
    # NumPy's cast from memory to float64 is three times as slow as a copy into the cache: two steps cost less.
    _SINGLE: lambda values, out: np.copyto(out, values),
}
"""How values become float32 in the cache."""
_SUMMED_AS_SINGLE = {DTYPES["F16"], DTYPES["BF16"], DTYPES["F32"]}


def mean_dtype(dtype: DType) -> DType:
    """Of a combiner model's tensor: float32 for floating point up to 32 bits, float64 for all others."""
    return _SINGLE if dtype in _SUMMED_AS_SINGLE else _DOUBLE


def is_floating(dtype: DType) -> bool:
    return dtype in _SUMMED_AS_SINGLE or dtype == _DOUBLE


def add_scaled(total: Flat, values: Flat, weight: float, scratch: Flat) -> None:
    """total += weight * values, computed in the dtype of `total`.

    Args:
        total: (n,) float64 or float32.
        values: (n,) of any dtype of models.
        scratch: (PIECE,) of the dtype of `total`.
    """
    if weight == 1.0 and values.dtype == total.dtype:
        np.add(total, values, out=total)
        return
    if values.dtype != total.dtype and values.dtype in _WIDEN:
        for part, term in _widened(total, values, scratch):
            if weight != 1.0:
                np.multiply(term, weight, out=term)
            np.add(part, term, out=part)
        return
    for start in range(0, len(total), PIECE):
        part, piece = total[start : start + PIECE], values[start : start + PIECE]
        term = scratch[: len(part)]
        if values.dtype == total.dtype:
            np.multiply(piece, weight, out=term)
        else:
            # An explicit cast before the arithmetic beats ufuncs that cast operands in their own small buffers.
            np.copyto(term, piece, casting="unsafe")
            if weight != 1.0:
                np.multiply(term, weight, out=term)
        np.add(part, term, out=part)


def store_scaled(total: Flat, values: Flat, weight: float, scratch: Flat) -> None:
    """total = weight * values, computed as `add_scaled` computes it: as if it were added to zeros."""
    if values.dtype != total.dtype and values.dtype in _WIDEN:
        for part, term in _widened(total, values, scratch):
            np.multiply(term, weight, out=part)
        return
    for start in range(0, len(total), PIECE):
        part = total[start : start + PIECE]
        np.copyto(part, values[start : start + PIECE], casting="unsafe")
        if weight != 1.0:
            np.multiply(part, weight, out=part)


def add_source(total: Flat, values: Source, weight: float, scratch: Flat, *, fresh: bool = False) -> None:
    """total += weight * values, for values that have to be worked out; as `add_scaled`.

    Args:
        fresh: what `total` holds has no meaning yet, and counts as 0.
    """
    single = np.empty(min(PIECE, len(total)), np.float32)
    for start, stop in pieces(len(total)):
        part = total[start:stop]
        if fresh:
            part.fill(0)
        if isinstance(values, SparseSource):
            positions, found = values.nonzero(start, stop)
            part[positions] += found.astype(total.dtype) * weight
        else:
            values.read(start, stop, single[: len(part)])
            add_scaled(part, single[: len(part)], weight, scratch)


def _widened(total: Flat, values: Flat, scratch: Flat) -> Iterator[tuple[Flat, Flat]]:
    """Pieces of `total`, each with its values in the dtype of `total`, in `scratch`.

    They become float32 first: straight to float64, NumPy's loops are slow, and those of ml_dtypes hold the GIL.
    """
    widen = _WIDEN[values.dtype]
    size, single = len(scratch), scratch
    if total.dtype == _DOUBLE:
        # Two thirds of the scratch are room for float64, and the rest for as many float32.
        size = max(len(scratch) * 2 // 3, 1)
        single = scratch.view(np.float32)[2 * len(scratch) - size :]
    for start in range(0, len(total), size):
        part = total[start : start + size]
        term, halves = scratch[: len(part)], single[: len(part)]
        widen(values[start : start + size], halves)
        if total.dtype == _DOUBLE:
            np.copyto(term, halves)
        yield part, term


def store_mean(
    total: Flat, weight: float, out: Flat, scratch: Flat, base: Flat | None = None, base_weight: float = 0.0
) -> None:
    """out = (total + base_weight * base) / weight, in the dtype of `out` by the rule of this module.

    Args:
        total: (n,) float64 or float32; stays as it is.
        out: (n,) of any dtype of models.
        scratch: (PIECE,) of the dtype of `total`.
        base: (n,) of any dtype of models, or None.

    Raises:
        InvalidInput: (`sum_overflow`) the mean is not finite.
    """
    for start in range(0, len(total), PIECE):
        part = total[start : start + PIECE]
        target = out[start : start + PIECE]
        mean = scratch[: len(part)]
        if base is None:
            np.divide(part, weight, out=mean)
        else:
            np.copyto(mean, base[start : start + PIECE], casting="unsafe")
            np.multiply(mean, base_weight, out=mean)
            np.add(mean, part, out=mean)
            np.divide(mean, weight, out=mean)
        if not np.isfinite(mean).all():
            _refuse_overflow(total.dtype)
        if out.dtype.kind == "b":
            np.greater_equal(mean, 0.5, out=target)
            continue
        if out.dtype.kind in "iu":
            np.rint(mean, out=mean)
            np.clip(mean, *_range_as_float(out.dtype), out=mean)
        np.copyto(target, mean, casting="unsafe")
        if out.dtype.itemsize < mean.dtype.itemsize and is_floating(out.dtype) and not np.isfinite(target).all():
            _refuse_overflow(out.dtype)


def _range_as_float(dtype: DType) -> tuple[float, float]:
    """The least and the greatest float64 that the integer dtype holds."""
    limits = np.iinfo(dtype)
    highest = float(limits.max)
    return float(limits.min), highest if int(highest) <= limits.max else float(np.nextafter(highest, 0.0))


def _refuse_overflow(dtype: DType) -> None:
    raise InvalidInput(
        "sum_overflow",
        f"The mean of the updates is not finite in {dtype}",
        fix="Look for a client whose values are near the dtype's limit; with sum_dtype float32, choose float64.",
    )
