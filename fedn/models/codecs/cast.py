"""Floating-point numbers in 16 bits: `float16` (IEEE binary16) and `bfloat16` (the upper half of a float32).

Both round to nearest, halves to even. Relative error: at most 2^-11 for float16 between 6.1e-5 and 65504 (absolute
3e-8 below), at most 2^-8 for bfloat16, whose range is that of float32.

The conversions work on the bits, in pieces that stay in cache, in NumPy loops that release the GIL (those of ml_dtypes
hold it, and NumPy's own reading of float16 is four times as slow). Measured on one thread, in bytes of float32:
bfloat16 20 GB/s read and 8 written, float16 11 read and 2.6 written; `python -m benchmarks codecs` measures again.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from fedn.models.codecs.base import PIECE, Flat, Numbers, Part, Source, Stored, out_of_range, pieces
from fedn.models.wire import DTYPES, DType

_F16_INFINITY = 0x7C00
_F16_NEGATIVE = 0xFC00
_BF16_INFINITE_FROM = 0x7F7F_8000
"""The bits of the least float32 that rounds to infinity; those of infinities and NaNs are larger."""
_TO_SINGLE = np.float32(2.0**112)
"""The biases of the two exponents differ by 112."""
_F16_IN_SINGLE = np.int32(0x8FFFE000 - 2**32)
"""Where sign, exponent and mantissa of a float16 lie after it was widened with its sign and shifted by 13."""


def widen_bfloat16(halves: Flat, out: Flat) -> None:
    """bfloat16 to float32, exactly: the bits become the upper half.

    Args:
        halves: (n,) bfloat16.
        out: (n,) float32.
    """
    bits = out.view(np.uint32)
    np.copyto(bits, halves.view(np.uint16))
    np.left_shift(bits, 16, out=bits)


def widen_float16(halves: Flat, out: Flat) -> None:
    """float16 to float32, exactly: exponent and mantissa move to their places, then the exponent's bias is corrected by
    a multiplication, which also normalises subnormal numbers.

    Args:
        halves: (n,) float16.
        out: (n,) float32.
    """
    integers = halves.view(np.int16)
    if int(integers.max(initial=0)) >= _F16_INFINITY or int(integers.view(np.uint16).max(initial=0)) >= _F16_NEGATIVE:
        np.copyto(out, halves)  # infinities and NaNs among them: slowly
        return
    bits = out.view(np.int32)
    np.copyto(bits, integers)
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _F16_IN_SINGLE, out=bits)
    np.multiply(out, _TO_SINGLE, out=out)


def narrow_bfloat16(values: Flat, out: Flat, scratch: Flat) -> bool:
    """float32 to bfloat16, rounded to nearest, halves to even.

    False where a value is not finite, or becomes infinite; what is written then has no meaning.

    Args:
        values: (n,) float32.
        out: (n,) bfloat16.
        scratch: (n,) uint32.
    """
    bits, target = values.view(np.uint32), out.view(np.uint16)
    # As integers, floating-point numbers of one sign are in the order of their magnitudes.
    highest = max(int(bits.view(np.int32).max(initial=0)), int(bits.max(initial=0)) & 0x7FFF_FFFF)
    # 0x7FFF and the last bit that stays carry into the upper half where the lower one is more than a half, or a half
    # and that bit is odd.
    np.right_shift(bits, 16, out=scratch)
    np.bitwise_and(scratch, 1, out=scratch)
    np.add(scratch, 0x7FFF, out=scratch)
    np.add(scratch, bits, out=scratch)
    np.right_shift(scratch, 16, out=scratch)
    np.copyto(target, scratch, casting="unsafe")
    return highest < _BF16_INFINITE_FROM


class _Cast(Numbers):
    plain = True
    _dtype: ClassVar[DType]

    def stored_dtype(self, dtype: DType) -> DType | None:
        """Of wider ones alone: between float16 and bfloat16 nothing is saved."""
        return self._dtype if dtype.itemsize > self._dtype.itemsize else None

    def parts(self) -> tuple[Part, ...]:
        return ()

    def check(self, stored: Stored, parts: Mapping[str, Flat]) -> None:
        """Every finite value has a meaning."""


class Float16(_Cast):
    """Values as IEEE float16: precise to 2^-11, but none above 65504."""

    name = "float16"
    _dtype = DTYPES["F16"]

    def encode(self, values: Source, out: Flat, parts: Mapping[str, Flat]) -> None:
        scratch = np.empty(min(PIECE, len(out)), np.float32)
        for start, stop in pieces(len(out)):
            piece, target = scratch[: stop - start], out[start:stop]
            values.read(start, stop, piece)
            with np.errstate(over="ignore", invalid="ignore"):  # looked for in the result
                np.copyto(target, piece, casting="unsafe")
            if not np.isfinite(target).all():
                raise out_of_range(
                    self.name, "values beyond 65504, infinite or not a number", "Use bfloat16, which has more range."
                )

    def source(self, stored: Stored, parts: Mapping[str, Flat]) -> Source:
        return _Float16Source(stored)


class BFloat16(_Cast):
    """Values as bfloat16: the range of float32, precise to 2^-8."""

    name = "bfloat16"
    _dtype = DTYPES["BF16"]

    def encode(self, values: Source, out: Flat, parts: Mapping[str, Flat]) -> None:
        scratch = np.empty(min(PIECE, len(out)), np.float32)
        bits = np.empty(len(scratch), np.uint32)
        for start, stop in pieces(len(out)):
            piece = scratch[: stop - start]
            values.read(start, stop, piece)
            if not narrow_bfloat16(piece, out[start:stop], bits[: stop - start]):
                raise out_of_range(
                    self.name, "values that are infinite, not a number, or beyond its range", "Look at the values."
                )

    def source(self, stored: Stored, parts: Mapping[str, Flat]) -> Source:
        return _BFloat16Source(stored)


class _Float16Source:
    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def read(self, start: int, stop: int, out: Flat) -> None:
        widen_float16(self._stored[start:stop], out)


class _BFloat16Source:
    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def read(self, start: int, stop: int, out: Flat) -> None:
        widen_bfloat16(self._stored[start:stop], out)
