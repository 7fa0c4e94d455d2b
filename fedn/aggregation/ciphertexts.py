"""Sums of ciphertexts: their coefficients added modulo a prime, after a look at each that it is one."""

from collections.abc import Iterator
from math import isclose
from typing import Any, Self

import numpy as np

from fedn.aggregation.sharing import share as in_parts
from fedn.models.encrypted import CIPHERTEXTS, WEIGHT, EncryptedLayout
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, differences
from fedn.protocol.errors import InvalidInput, UpdateRefused

Coefficients = np.ndarray[tuple[int], np.dtype[np.uint64]]

_PIECE = 1 << 15
"""Elements that are worked on at once: they stay in the processor's cache."""
_SAME = 1e-9
"""Relative difference of weights that two programs work out from the same numbers."""


class CiphertextSum:
    """The sum of encrypted models of one layout, and of their weights. For one thread at a time.

    Adding commutes and associates exactly. Memory: one model, and pieces of scratch.
    """

    def __init__(self, layout: EncryptedLayout) -> None:
        self._layout = layout
        self._modulus = np.uint64(layout.parameters.modulus)
        self._sum: Coefficients | None = None
        self.weight = 0.0
        """Sum of the weights."""
        self.count = 0
        """Number of models that were added."""

    def add(self, model: Pieces, spec: ModelSpec, weight: float) -> None:
        """Adds a model; nothing is added where it is refused.

        Args:
            model: the bytes, read during the call only.
            spec: what they hold.
            weight: what the model must say that its values were multiplied by.

        Raises:
            UpdateRefused: (`update_does_not_fit`) it has another key, other parameters, counts or sizes;
                (`bad_ciphertext`) another weight, or coefficients that are none.
        """
        expected = self._layout.spec
        faults = differences(spec, expected)
        faults += [
            f"its {key} is {spec.metadata.get(key, '(none)')[:200]} instead of {text}"
            for key, text in expected.metadata.items()
            if spec.metadata.get(key) != text
        ]
        if faults:
            raise UpdateRefused(
                "update_does_not_fit",
                f"The update is not encrypted as the plan says: {'; '.join(faults)}",
                fix="Give the client the key that the plan names.",
            )
        ((_, said),) = model.elements(np.dtype("<f8"), spec.by_name[WEIGHT].start, 1)
        if not isclose(float(said[0]), weight, rel_tol=_SAME):
            raise UpdateRefused(
                "bad_ciphertext",
                f"the update says that it was multiplied by {float(said[0]):g}, and its weight is {weight:g}",
                fix="Run the same version of fedn at the client and on the servers.",
            )
        info = spec.by_name[CIPHERTEXTS]
        parts = list(model.elements(info.dtype, info.start, info.size))
        if any(self._has_more(values) for _, values in parts):
            raise UpdateRefused(
                "bad_ciphertext",
                "the update has coefficients that are not below the modulus of its ciphertexts",
                fix="Encrypt with fedn.",
            )
        if self._sum is None:
            self._sum = np.empty(info.size, np.uint64)
            for first, values in parts:
                self._sum[first : first + len(values)] = values
        else:
            for first, values in parts:
                self._add(self._sum[first : first + len(values)], values)
        self.weight += weight
        self.count += 1

    def merge(self, other: Self) -> None:
        """Adds all that `other` added, which stays as it is. InvalidInput (`aggregates_do_not_fit`)."""
        if other._layout != self._layout:
            raise InvalidInput("aggregates_do_not_fit", "The sums are of different parameters or models")
        if other._sum is not None:
            if self._sum is None:
                self._sum = other._sum.copy()
            else:
                self._add(self._sum, other._sum)
        self.weight += other.weight
        self.count += other.count

    def pieces(self, piece_bytes: int) -> Iterator[memoryview]:
        """The sum as an encrypted model, in parts of one size but for the last. Something was added.

        Args:
            piece_bytes: a multiple of 64.
        """
        assert self._sum is not None
        spec = self._layout.spec
        start = spec.by_name[CIPHERTEXTS].start
        head = bytearray(start)
        head[: len(self._layout.header)] = self._layout.header
        at = spec.by_name[WEIGHT].start
        head[at : at + 8] = np.array(self.weight, "<f8").tobytes()
        body = self._sum.view(np.uint8).data
        for begin in range(0, spec.size_bytes, piece_bytes):
            end = min(begin + piece_bytes, spec.size_bytes)
            if begin >= start:
                yield body[begin - start : end - start]
            else:
                yield memoryview(bytes(head[begin:end]) + bytes(body[: max(0, end - start)]))

    def _has_more(self, values: Coefficients) -> bool:
        """Whether one of them is not below the modulus."""
        return any(int(values[at : at + _PIECE].max()) >= self._modulus for at in range(0, len(values), _PIECE))

    def _add(self, total: Coefficients, values: Coefficients) -> None:
        def add_range(start: int, stop: int) -> None:
            scratch = np.empty(min(_PIECE, stop - start), np.uint64)
            for at in range(start, stop, _PIECE):
                part: Any = total[at : min(at + _PIECE, stop)]
                less = scratch[: len(part)]
                # Both are below a modulus of 60 bits; a difference below 0 wraps to a huge number.
                np.add(part, values[at : at + len(part)], out=part)
                np.subtract(part, self._modulus, out=less)
                np.minimum(part, less, out=part)

        in_parts(len(total), add_range)
