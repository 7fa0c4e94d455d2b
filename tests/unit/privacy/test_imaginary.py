"""Multiplication by i, against whole numbers of any size."""

import numpy as np
import pytest

from fedn.models.encrypted import RINGS
from fedn.privacy.imaginary import ImaginaryUnit


@pytest.mark.parametrize("degree", RINGS)
def test_it_is_the_root_of_minus_one_and_its_negative_in_the_other_half(degree):
    q = RINGS[degree].modulus
    values = np.random.default_rng(0).integers(0, q, degree, np.uint64)
    values[:3] = 0, 1, q - 1
    once = ImaginaryUnit(degree, q).times(values)
    root = int(once[1])
    assert root * root % q == q - 1
    half = degree // 2
    factors = [root] * half + [q - root] * half
    assert once.tolist() == [int(value) * factor % q for value, factor in zip(values, factors, strict=True)]
    twice = ImaginaryUnit(degree, q).times(once)
    assert twice.tolist() == [(q - int(value)) % q for value in values]
