"""`topk`: of each tensor the values of largest magnitude, with their places; what is left out comes later.

Sparsification with memory (Stich et al. 2018, Algorithm 1): the values that are not sent are added to the sender's
next update. Of equal magnitudes the first ones are kept. Of n values, k = ceil(fraction · n) are kept; where 2·k > n
the tensor is left whole, since that takes no more room.

Places are stored in two parts: `counts`, how many values are kept of each block of 65,536 elements (uint32), and
`places`, the positions within their blocks (uint16), ascending: 2 bytes a value instead of 4, and any block can be read
by itself.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedn.models.codecs.base import (
    PIECE,
    Flat,
    Part,
    Selection,
    Source,
    SparseSource,
    bad_encoding,
    bad_option,
    flag,
    out_of_range,
    pieces,
    refuse_options,
)
from fedn.models.wire import DTYPES

_BLOCK = 65_536
_COUNTS = "counts"
_PLACES = "places"


class TopK(Selection):
    """Of each tensor the values of largest magnitude, with error feedback; the chain begins with delta.

    Options: fraction (0.01), above 0 and at most 0.5; error_feedback (true).
    """

    name = "topk"

    def __init__(self, **options: Any) -> None:
        refuse_options(self.name, options, ("fraction", "error_feedback"))
        fraction = options.get("fraction", 0.01)
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 0.5:
            raise bad_option(self.name, "fraction", fraction, "It is a number above 0 and at most 0.5.")
        self._fraction = float(fraction)
        self._error_feedback = flag(self.name, "error_feedback", options.get("error_feedback", True))

    @property
    def options(self) -> dict[str, Any]:
        return {"fraction": self._fraction, "error_feedback": self._error_feedback}

    @property
    def error_feedback(self) -> bool:
        return self._error_feedback

    def kept(self, size: int) -> int | None:
        kept = math.ceil(self._fraction * size)
        return kept if 2 * kept <= size and kept else None

    def parts(self, size: int) -> tuple[Part, ...]:
        kept = self.kept(size) or 0
        return (
            Part(_COUNTS, DTYPES["U32"], (math.ceil(size / _BLOCK),)),
            Part(_PLACES, DTYPES["U16"], (kept,)),
        )

    def select(self, values: Source, size: int, parts: Mapping[str, Flat]) -> Flat:
        """See `Selection.select`. Takes 4 bytes a value of the tensor while it works.

        Raises:
            InvalidInput: (`values_out_of_range`) values are infinite or not a number.
        """
        kept = self.kept(size) or 0
        magnitudes = np.empty(size, np.float32)
        for start, stop in pieces(size):
            piece = magnitudes[start:stop]
            values.read(start, stop, piece)
            np.abs(piece, out=piece)
        magnitudes.partition(size - kept)
        largest = magnitudes[size - kept :]
        least = largest[0]
        if not np.isfinite(largest).all():  # NaNs are sorted behind all numbers
            raise out_of_range(self.name, "values that are infinite or not a number", "Look at the values.")
        ties = kept - int(np.count_nonzero(largest > least))
        del magnitudes, largest
        return self._collect(values, size, parts, least, ties)

    def _collect(self, values: Source, size: int, parts: Mapping[str, Flat], least: float, ties: int) -> Flat:
        """The values above `least`, and the first `ties` of those that equal it."""
        counts, places = parts[_COUNTS], parts[_PLACES]
        found = np.empty(len(places), np.float32)
        scratch = np.empty(min(_BLOCK, size), np.float32)
        end = 0
        for block, (start, stop) in enumerate(pieces(size)):
            piece = scratch[: stop - start]
            values.read(start, stop, piece)
            magnitudes = np.abs(piece)
            keep = magnitudes > least
            if ties:
                equal = np.flatnonzero(magnitudes == least)[:ties]
                keep[equal] = True
                ties -= len(equal)
            here = np.flatnonzero(keep)
            places[end : end + len(here)] = here
            found[end : end + len(here)] = piece[here]
            counts[block] = len(here)
            end += len(here)
        return found

    def check(self, size: int, parts: Mapping[str, Flat]) -> None:
        counts, places = parts[_COUNTS], parts[_PLACES]
        if int(counts.sum(dtype=np.uint64)) != len(places):
            raise bad_encoding(self.name, "the counts of its blocks do not add up to the places")
        ends = np.cumsum(counts, dtype=np.int64)
        filled = np.flatnonzero(counts)
        # In a block, each place is larger than the one before it; the last one tells whether all lie in it.
        steps = places[1:] > places[:-1]
        steps[ends[filled[:-1]] - 1] = True
        if not steps.all():
            raise bad_encoding(self.name, "the places of a block do not ascend")
        lengths = np.minimum(size - filled * _BLOCK, _BLOCK)
        if np.any(places[ends[filled] - 1] >= lengths):
            raise bad_encoding(self.name, "a place lies outside its tensor")

    def source(self, size: int, parts: Mapping[str, Flat], kept: Source) -> SparseSource:
        return _TopKSource(parts[_COUNTS], parts[_PLACES], kept)


class _TopKSource:
    def __init__(self, counts: Flat, places: Flat, kept: Source) -> None:
        self._ends = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        self._places = places
        self._kept = kept

    def nonzero(self, start: int, stop: int) -> tuple[Flat, Flat]:
        found = [self._of_block(block, start, stop) for block in range(start // _BLOCK, -(-stop // _BLOCK))]
        if len(found) == 1:
            return found[0]
        return np.concatenate([positions for positions, _ in found]), np.concatenate([values for _, values in found])

    def read(self, start: int, stop: int, out: Flat) -> None:
        out[:] = 0
        positions, values = self.nonzero(start, stop)
        out[positions] = values

    def _of_block(self, block: int, start: int, stop: int) -> tuple[Flat, Flat]:
        first, last = self._ends[block], self._ends[block + 1]
        places, offset = self._places[first:last], start - block * _BLOCK
        if offset > 0 or stop < (block + 1) * _BLOCK:
            low, high = np.searchsorted(places, [max(offset, 0), stop - block * _BLOCK]).tolist()
            first, last, places = first + low, first + high, places[low:high]
        values = np.empty(last - first, np.float32)
        self._kept.read(first, last, values)
        return places.astype(np.intp) - offset, values


# A block is read in one piece.
assert _BLOCK <= PIECE
