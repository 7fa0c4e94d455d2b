"""`int8`: values as integers from -127 to 127 times one scale a tensor, max|x| / 127.

Symmetric, rounded to nearest, halves to even (Jacob et al. 2018, section 2.1, with zero-point 0): an error of at most
half the scale a value. What is lost is added to the sender's next update (error feedback: Seide et al. 2014;
Karimireddy et al. 2019), so that it is late rather than lost.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedn.models.codecs.base import (
    PIECE,
    Flat,
    Numbers,
    Part,
    Source,
    Stored,
    bad_encoding,
    flag,
    out_of_range,
    pieces,
    refuse_options,
)
from fedn.models.wire import DTYPES, DType

_LEVELS = 127
_LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""Below it, float32 has not the precision that dividing by a scale needs: such a tensor counts as 0."""
_LARGEST_SCALE = float(np.finfo(np.float32).max) / _LEVELS
_SCALE = "scale"


class Int8(Numbers):
    """Values as 8-bit integers times one scale a tensor, with error feedback.

    Options: error_feedback (true).
    """

    name = "int8"

    def __init__(self, **options: Any) -> None:
        refuse_options(self.name, options, ("error_feedback",))
        self._error_feedback = flag(self.name, "error_feedback", options.get("error_feedback", True))

    @property
    def options(self) -> dict[str, Any]:
        return {"error_feedback": self._error_feedback}

    @property
    def error_feedback(self) -> bool:
        return self._error_feedback

    def stored_dtype(self, dtype: DType) -> DType | None:
        return DTYPES["I8"]

    def parts(self) -> tuple[Part, ...]:
        return (Part(_SCALE, DTYPES["F32"], ()),)

    def encode(self, values: Source, out: Flat, parts: Mapping[str, Flat]) -> None:
        scratch = np.empty(min(PIECE, len(out)), np.float32)
        highest = 0.0
        for start, stop in pieces(len(out)):
            piece = scratch[: stop - start]
            values.read(start, stop, piece)
            # NaN is neither below nor above anything: `max` of Python would lose it, that of NumPy keeps it.
            highest = float(np.maximum(highest, np.maximum(piece.max(), -piece.min())))
        if not np.isfinite(highest):
            raise out_of_range(self.name, "values that are infinite or not a number", "Look at the values.")
        scale = np.float32(highest / _LEVELS)
        parts[_SCALE][0] = scale if scale >= _LEAST_SCALE else 0.0
        if scale < _LEAST_SCALE:
            out[:] = 0
            return
        for start, stop in pieces(len(out)):
            piece = scratch[: stop - start]
            values.read(start, stop, piece)
            np.divide(piece, scale, out=piece)
            np.rint(piece, out=piece)
            np.clip(piece, -_LEVELS, _LEVELS, out=piece)
            np.copyto(out[start:stop], piece, casting="unsafe")

    def check(self, stored: Stored, parts: Mapping[str, Flat]) -> None:
        scale = float(parts[_SCALE][0])
        if not 0.0 <= scale <= _LARGEST_SCALE:
            raise bad_encoding(self.name, f"a scale of {scale}")
        if any(stored[start:stop].min() < -_LEVELS for start, stop in pieces(len(stored))):
            raise bad_encoding(self.name, f"a value below -{_LEVELS}")

    def source(self, stored: Stored, parts: Mapping[str, Flat]) -> Source:
        return _Int8Source(stored, np.float32(parts[_SCALE][0]))


class _Int8Source:
    def __init__(self, stored: Stored, scale: np.float32) -> None:
        self._stored = stored
        self._scale = scale

    def read(self, start: int, stop: int, out: Flat) -> None:
        np.copyto(out, self._stored[start:stop])
        np.multiply(out, self._scale, out=out)
