"""Integers of 40 and 60 bits, without their upper bits."""

import numpy as np
import pytest

from fedn.models.planes import join, planes_of, split


@pytest.mark.parametrize(("bits", "widths"), [(40, [32, 8]), (60, [32, 16, 8, 4]), (48, [32, 16]), (52, [32, 16, 4])])
def test_integers_come_back_from_their_planes_which_have_no_more_bits_than_they(bits, widths):
    planes = planes_of(bits)
    assert [plane.bits for plane in planes] == widths
    rng = np.random.default_rng(0)
    integers = rng.integers(0, 2**bits, 1000, np.uint64)
    integers[:4] = 0, 2**bits - 1, 1, 2 ** (bits - 1)
    parts = [split(integers, plane) for plane in planes]
    assert sum(part.nbytes for part in parts) * 8 == bits * len(integers)
    back = np.full(1000, 7, np.uint64)
    join(parts, planes, back)
    np.testing.assert_array_equal(back, integers)


def test_two_integers_share_a_byte_of_their_upper_bits_the_first_one_low():
    (part,) = (split(np.array([0xA << 56, 0xB << 56], np.uint64), plane) for plane in planes_of(60) if plane.bits == 4)
    assert part.tolist() == [0xBA]


@pytest.mark.parametrize("bits", [28, 33, 64])
def test_other_widths_are_none(bits):
    with pytest.raises(ValueError, match=f"{bits} bits"):
        planes_of(bits)
