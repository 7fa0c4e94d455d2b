"""Sums of ciphertexts: their coefficients added modulo a prime, after a look at each that it is one."""

from collections.abc import Iterator, Sequence
from functools import partial
from math import isclose
from typing import Self

import numpy as np

from fedn.aggregation.sharing import share as in_parts
from fedn.models.encrypted import WEIGHT, EncryptedLayout
from fedn.models.pieces import Pieces
from fedn.models.planes import Integers, Part, Plane, join, split
from fedn.models.wire import ModelSpec, TensorInfo, differences
from fedn.protocol.errors import InvalidInput, UpdateRefused

Stored = Sequence[tuple[Plane, TensorInfo]]
"""Where coefficients are."""

_PIECE = 1 << 15
"""Coefficients that are worked on at once: they stay in the processor's cache. Even."""
_SAME = 1e-9
"""Relative difference of weights that two programs work out from the same numbers."""


class CiphertextSum:
    """The sum of encrypted models of one layout, and of their weights. For one thread at a time.

    Adding commutes and associates exactly. Memory: one model, and pieces of scratch.
    """

    def __init__(self, layout: EncryptedLayout) -> None:
        self._layout = layout
        self._modulus = np.uint64(layout.parameters.modulus)
        self._sum: Integers | None = None
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
        stored = self._layout.planes_in(spec)
        if self._has_more(model, stored):
            raise UpdateRefused(
                "bad_ciphertext",
                "the update has coefficients that are not below the modulus of its ciphertexts",
                fix="Encrypt with fedn.",
            )
        if self._sum is None:
            self._sum = np.zeros(self._layout.coefficients, np.uint64)

        in_parts(self._layout.coefficients // 2, partial(self._add_pairs, self._sum, model, stored))
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
                for at in range(0, len(self._sum), _PIECE):
                    self._add(self._sum[at : at + _PIECE], other._sum[at : at + _PIECE])
        self.weight += other.weight
        self.count += other.count

    def pieces(self, piece_bytes: int) -> Iterator[memoryview]:
        """The sum as an encrypted model, in parts of one size but for the last. Something was added.

        Args:
            piece_bytes: a multiple of 64.
        """
        assert self._sum is not None
        room = bytearray()
        for part in self._parts(self._sum):
            room += part
            while len(room) >= piece_bytes:
                yield memoryview(bytes(room[:piece_bytes]))
                del room[:piece_bytes]
        if room:
            yield memoryview(bytes(room))

    def _parts(self, total: Integers) -> Iterator[bytes]:
        """The bytes in their order: what stands before the ciphertexts, then plane by plane."""
        spec = self._layout.spec
        weight = spec.by_name[WEIGHT]
        stored = sorted(self._layout.planes_in(spec), key=lambda one: one[1].start)
        head = bytearray(stored[0][1].start)
        head[: len(self._layout.header)] = self._layout.header
        head[weight.start : weight.stop] = np.array(self.weight, "<f8").tobytes()
        yield bytes(head)
        for plane, _ in stored:
            for at in range(0, len(total), _PIECE):
                yield split(total[at : at + _PIECE], plane).tobytes()

    def _has_more(self, model: Pieces, stored: Stored) -> bool:
        """Whether a coefficient is not below the modulus."""
        return any(int(part.max()) >= self._modulus for _, part in _pieces(model, stored, 0, self._layout.coefficients))

    def _add_pairs(self, total: Integers, model: Pieces, stored: Stored, start: int, stop: int) -> None:
        """Adds coefficients to their sums, from pair number `start` to `stop`: a byte may be of two of them."""
        for at, values in _pieces(model, stored, 2 * start, 2 * stop):
            self._add(total[at : at + len(values)], values)

    def _add(self, total: Integers, values: Integers) -> None:
        """Adds what is below the modulus, in place; a difference below 0 wraps to a huge number."""
        np.add(total, values, out=total)
        np.minimum(total, total - self._modulus, out=total)


def _pieces(model: Pieces, stored: Stored, start: int, stop: int) -> Iterator[tuple[int, Integers]]:
    """(Number of the first, values) of the coefficients from `start` to `stop`, both even; values until the next."""
    planes = [plane for plane, _ in stored]
    room = np.empty(min(_PIECE, stop - start), np.uint64)
    for at in range(start, stop, _PIECE):
        size = min(_PIECE, stop - at)
        values = room[:size]
        join([_elements(model, plane, info, at, size) for plane, info in stored], planes, values)
        yield at, values


def _elements(model: Pieces, plane: Plane, info: TensorInfo, at: int, size: int) -> Part:
    """What a plane has of `size` coefficients."""
    first, count = at // plane.in_element, size // plane.in_element
    runs = [run for _, run in model.elements(info.dtype, info.start + first * info.dtype.itemsize, count)]
    return runs[0] if len(runs) == 1 else np.concatenate(runs)
