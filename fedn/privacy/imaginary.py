"""The imaginary unit of CKKS: how a polynomial becomes the one whose complex slots are i times as much.

TenSEAL reads and writes the real parts of slots alone. With this the imaginary parts hold values too, and a ciphertext
twice as many (Cheon et al. 2017 encode complex numbers). It is exact: no noise comes of it, and no level is spent.
"""

from typing import Any

import numpy as np

Coefficients = np.ndarray[tuple[int], np.dtype[np.uint64]]

_LOW = np.uint64(0xFFFF_FFFF)
_32 = np.uint64(32)


class ImaginaryUnit:
    """The monomial X^(degree/2), modulo a prime: in each slot it is i or -i, by the slot's place.

    Polynomials are in SEAL's NTT form: place k has their value at ψ^(2·r(k) + 1), where r reverses the bits of k and ψ
    is a root of unity of order 2·degree (Longa and Naehrig 2016). The monomial there is ψ^(degree/2) = √-1 for an even
    r(k), which the first half of the places has, and the other root for an odd one.

    Args:
        degree: a power of 2.
        modulus: a prime below 2^62, one above a multiple of 4.
    """

    def __init__(self, degree: int, modulus: int) -> None:
        self._modulus = np.uint64(modulus)
        root = _root_of_minus_one(modulus)
        self._halves = [(slice(0, degree // 2), root), (slice(degree // 2, degree), modulus - root)]

    def times(self, coefficients: Coefficients) -> Coefficients:
        """i times a polynomial: (degree,), below the modulus."""
        made = np.empty_like(coefficients)
        for half, root in self._halves:
            made[half] = _product(coefficients[half], root, self._modulus)
        return made


def _root_of_minus_one(modulus: int) -> int:
    """That of a power of the least number that is no square (Euler's criterion)."""
    number = 2
    while pow(number, (modulus - 1) // 2, modulus) == 1:
        number += 1
    return pow(number, (modulus - 1) // 4, modulus)


def _product(values: Coefficients, factor: int, modulus: Any) -> Coefficients:
    """factor · values modulo a prime, by the quotient that is estimated from factor/modulus (Shoup; Harvey 2014)."""
    estimate = (factor << 64) // int(modulus)
    quotient = _high_half(values, estimate)
    # The two products wrap, their difference does not: it is below twice the modulus.
    made = values * np.uint64(factor) - quotient * modulus
    less: Coefficients = np.minimum(made, made - modulus)
    return less


def _high_half(values: Coefficients, factor: int) -> Coefficients:
    """The upper 64 bits of values · factor, from products of 32 bits."""
    low, high = np.uint64(factor & 0xFFFF_FFFF), np.uint64(factor >> 32)
    values_low, values_high = values & _LOW, values >> _32
    across, over = values_low * high, values_high * low
    carried = ((values_low * low) >> _32) + (across & _LOW) + (over & _LOW)
    made: Coefficients = values_high * high + (across >> _32) + (over >> _32) + (carried >> _32)
    return made
