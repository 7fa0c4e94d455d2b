"""Integers below 2^40 or 2^60 as tensors of ordinary dtypes, without the bits that are always 0.

The low 32 bits of each integer are one tensor, the next 16 another, and so on: a plane each. So whole arrays are split
and joined by shifts, and whoever reads safetensors reads them.

Not here: what the integers are (fedn.models.encrypted).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedn.models.wire import DTYPES, DType

Integers = np.ndarray[tuple[int], np.dtype[np.uint64]]
Part = np.ndarray[tuple[int], np.dtype[Any]]

_NIBBLE_BITS = 4
_WHOLE = ((32, DTYPES["U32"]), (16, DTYPES["U16"]), (8, DTYPES["U8"]))


class Plane(NamedTuple):
    """Some bits of each integer."""

    shift: int
    """Bits below them."""
    bits: int
    """32, 16, 8 or 4."""
    dtype: DType
    """Of the tensor; of 4 bits, an element holds those of two integers that follow each other, the first one's low."""

    @property
    def in_element(self) -> int:
        """Integers of which an element holds bits."""
        return 2 if self.bits == _NIBBLE_BITS else 1


def planes_of(bits: int) -> tuple[Plane, ...]:
    """For integers below 2^bits, low bits first. ValueError: bits are no multiple of 4 between 32 and 60."""
    found: list[Plane] = []
    shift = 0
    for width, dtype in (*_WHOLE, (_NIBBLE_BITS, DTYPES["U8"])):
        if bits - shift >= width:
            found.append(Plane(shift, width, dtype))
            shift += width
    if shift != bits or bits < _WHOLE[0][0]:
        raise ValueError(f"there are no planes for integers of {bits} bits")
    return tuple(found)


def split(integers: Integers, plane: Plane) -> Part:
    """The bits of a plane.

    Args:
        integers: an even number of them.
    """
    part: Part = (integers >> np.uint64(plane.shift)).astype(plane.dtype)
    if plane.bits == _NIBBLE_BITS:
        part &= 0x0F
        part = part[0::2] | part[1::2] << 4
    return part


def join(parts: Sequence[Part], planes: Sequence[Plane], out: Integers) -> None:
    """Puts the planes of integers together.

    Args:
        parts: as `split` gives them for each of the planes.
        out: contiguous and little-endian; written in full; an even number of integers.
    """
    out[:] = 0
    for part, plane in zip(parts, planes, strict=True):
        # Each plane lies in bytes of its own: copied there, it takes a quarter of the time of shifts.
        if plane.bits == _NIBBLE_BITS:
            place = out.view(np.uint8)[plane.shift // 8 :: out.itemsize]
            np.bitwise_and(part, 0x0F, out=place[0::2])
            np.right_shift(part, 4, out=place[1::2])
        else:
            out.view(plane.dtype)[plane.shift // plane.bits :: 64 // plane.bits] = part
