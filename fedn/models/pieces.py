"""Bytes that came in pieces and stay in them: an object as the messages that brought it, nowhere copied.

Not here: how pieces travel (fedn.network.frames).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fedn.models.digest import Buffer

Flat = np.ndarray[tuple[int], np.dtype[Any]]


class Pieces:
    """The first `len` bytes of an object, as parts that follow each other from offset 0 without gaps.

    The parts belong to their maker and must not change while this is read.

    Args:
        parts: in order.
        on_passed: told (start, stop) of each part that `elements` has read to its end; it may be read again.
    """

    __slots__ = ("_ends", "_on_passed", "_parts")

    def __init__(self, parts: Sequence[memoryview], on_passed: Callable[[int, int], None] | None = None) -> None:
        self._parts = parts
        self._on_passed = on_passed
        self._ends: list[int] = []
        end = 0
        for part in parts:
            end += part.nbytes
            self._ends.append(end)

    @classmethod
    def of(cls, buffer: Buffer) -> "Pieces":
        """Contiguous bytes, as one piece."""
        return cls((memoryview(buffer),))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def views(self, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """The bytes from `start` to `stop`, in order, as views into the parts."""
        stop = len(self) if stop is None else min(stop, len(self))
        at = bisect_right(self._ends, start)
        while start < stop:
            part, end = self._parts[at], self._ends[at]
            offset = end - part.nbytes
            yield part[start - offset : min(end, stop) - offset]
            start, at = end, at + 1

    def part(self, start: int, stop: int) -> "Pieces":
        """The bytes from `start` to `stop`, where they lie."""
        return Pieces(tuple(self.views(start, stop)))

    def copy(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from `start` to `stop`, put together."""
        return b"".join(self.views(start, stop))

    def elements(self, dtype: np.dtype[Any], start: int, size: int) -> Iterator[tuple[int, Flat]]:
        """`size` elements that begin at byte `start`: (index of the first, values) run by run.

        A run is a view into a part; an element that two parts share is a run of its own, copied.
        """
        itemsize = dtype.itemsize
        stop = start + size * itemsize
        at, position = bisect_right(self._ends, start), start
        while position < stop:
            part, end = self._parts[at], min(self._ends[at], stop)
            whole = (end - position) // itemsize
            if whole:
                offset = self._ends[at] - part.nbytes
                yield (position - start) // itemsize, np.frombuffer(part, dtype, whole, position - offset)
                position += whole * itemsize
            if position < end:
                element = np.frombuffer(self.copy(position, position + itemsize), dtype)
                yield (position - start) // itemsize, element
                position += itemsize
            while at < len(self._ends) and self._ends[at] <= position:
                if self._on_passed is not None:
                    self._on_passed(self._ends[at] - self._parts[at].nbytes, self._ends[at])
                at += 1
