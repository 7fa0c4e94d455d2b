"""The weighted sum of models that every linear rule shares, and its mean.

Not here: the arithmetic itself, and what a mean is for each dtype (fedn.aggregation.numerics).
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from fedn.aggregation.checks import check_header
from fedn.aggregation.numerics import PIECE, Flat, add_scaled, add_source, is_floating, mean_dtype, store_mean
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.wire import DType, ModelSpec, TensorInfo, allocate, view
from fedn.protocol.errors import InvalidInput


class _Segment(NamedTuple):
    """Elements that lie together in a sum and in a model's bytes."""

    sum_dtype: DType
    sum_start: int
    dtype: DType
    start: int
    """Offset in the bytes."""
    size: int
    """Number of elements."""

    def of_sum(self, sums: dict[DType, Flat]) -> Flat:
        return sums[self.sum_dtype][self.sum_start : self.sum_start + self.size]

    def of_model(self, buffer: Buffer) -> np.ndarray[tuple[int], np.dtype[Any]]:
        return np.frombuffer(buffer, self.dtype, self.size, self.start)


class Accumulator:
    """A weighted sum of models with the names, shapes and dtypes of `base`, and the weight it stands for.

    The law, up to rounding: `add` and `merge` commute and associate; a fresh accumulator is neutral; the weight of a
    merged sum is the sum of the weights. `result` is the sum divided by the weight and leaves the sum as it is.

    The sum is one flat vector in the order of the base's bytes. With sum_dtype float32 there are two: tensors whose
    mean needs float64 (float64, integers, bool) keep it. Memory: the sums and two pieces of scratch, whatever the
    number of updates. One thread at a time.

    Args:
        base: of the models to be added.
        sum_dtype: "float64" or "float32".
        base_buffer: bytes of the base model; needed for updates of the form "delta".
    """

    def __init__(self, base: ModelSpec, sum_dtype: str = "float64", base_buffer: Buffer | None = None) -> None:
        if sum_dtype not in {"float64", "float32"}:
            raise InvalidInput("bad_sum_dtype", f"There is no sum in {sum_dtype}", fix="Choose float64 or float32.")
        self._base = base
        self._base_buffer = base_buffer
        self._place: list[tuple[TensorInfo, DType, int]] = []
        sizes = {np.dtype(np.float64): 0, np.dtype(sum_dtype): 0}
        for tensor in base.stored_order:
            dtype = np.dtype(sum_dtype) if mean_dtype(tensor.dtype) == np.float32 else np.dtype(np.float64)
            self._place.append((tensor, dtype, sizes[dtype]))
            sizes[dtype] += tensor.size
        self._sums: dict[DType, Flat] = {dtype: np.zeros(size, dtype) for dtype, size in sizes.items()}
        self._scratch: dict[DType, Flat] = {dtype: np.empty(min(PIECE, size), dtype) for dtype, size in sizes.items()}
        self._known_layout = base.tensors
        self._known_segments = _joined(self._segments(base))
        self._weight = 0.0
        self._delta_weight = 0.0
        self._count = 0

    @property
    def weight(self) -> float:
        """Sum of the weights that were added."""
        return self._weight

    @property
    def count(self) -> int:
        """Number of models that were added."""
        return self._count

    def add(self, update: Buffer, spec: ModelSpec, weight: float, *, form: str = "model") -> None:
        """Adds weight * update; see `fedn.aggregation.base.Aggregate.add`."""
        self._check(weight, form)
        if len(update) < spec.size_bytes:
            raise ValueError(f"the update has {len(update)} bytes and its spec {spec.size_bytes}")
        # Most updates have the layout of the one before: then there is nothing to check and to work out anew.
        if spec.tensors != self._known_layout:
            check_header(_of_base_widths(spec, self._base), self._base)
            self._known_segments = _joined(self._segments(spec))
            self._known_layout = spec.tensors
        with np.errstate(over="ignore", invalid="ignore"):  # looked for in the result
            for segment in self._known_segments:
                values = segment.of_model(update)
                add_scaled(segment.of_sum(self._sums), values, weight, self._scratch[segment.sum_dtype])
        self._note(weight, form)

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model") -> None:
        """Adds weight * update, decoded piece by piece; see `fedn.aggregation.base.Aggregate.add_encoded`."""
        self._check(weight, form)
        if payload.base.tensors != self._base.tensors:
            check_header(payload.base, self._base)
        with np.errstate(over="ignore", invalid="ignore"):  # looked for in the result
            for tensor, sum_dtype, sum_start in self._place:
                total = self._sums[sum_dtype][sum_start : sum_start + tensor.size]
                values = payload.tensors[tensor.name]
                if isinstance(values, np.ndarray):
                    add_scaled(total, values, weight, self._scratch[sum_dtype])
                else:
                    add_source(total, values, weight, self._scratch[sum_dtype])
        self._note(weight, form)

    def merge(self, other: Self) -> None:
        """Adds what `other` holds; see `fedn.aggregation.base.Aggregate.merge`."""
        if other._place != self._place or other._sums.keys() != self._sums.keys():
            raise InvalidInput("aggregates_do_not_fit", "The aggregates are of different base models or sum dtypes")
        if other._delta_weight and self._base_buffer is None:
            raise InvalidInput("base_is_missing", "Updates of the form delta need the bytes of their base model")
        with np.errstate(over="ignore", invalid="ignore"):
            for dtype, total in self._sums.items():
                np.add(total, other._sums[dtype], out=total)
        self._weight += other._weight
        self._delta_weight += other._delta_weight
        self._count += other._count

    def result(self) -> bytearray:
        """The mean, with each tensor in its `mean_dtype`; see `fedn.aggregation.base.Aggregate.result`."""
        return self.mean([(tensor.name, mean_dtype(tensor.dtype), tensor.shape) for tensor in self._base.tensors])

    def mean(self, entries: list[tuple[str, DType, tuple[int, ...]]]) -> bytearray:
        """The mean in canonical safetensors bytes, in the dtypes and the order of `entries`.

        Args:
            entries: (name, dtype, shape) of each tensor; names and shapes are those of the base.

        Raises:
            InvalidInput: (`no_updates`) nothing was added; (`sum_overflow`) the mean is not finite.
        """
        if self._count == 0:
            raise InvalidInput("no_updates", "There is no mean of no updates")
        buffer, spec = allocate(entries)
        segments = self._segments(spec)
        bases: Iterable[Flat | None] = self._delta_bases() if self._delta_weight else itertools.repeat(None)
        with np.errstate(over="ignore", invalid="ignore"):
            for segment, base in zip(segments if self._delta_weight else _joined(segments), bases, strict=False):
                store_mean(
                    segment.of_sum(self._sums),
                    self._weight,
                    segment.of_model(buffer),
                    self._scratch[segment.sum_dtype],
                    base,
                    self._delta_weight,
                )
        return buffer

    def _check(self, weight: float, form: str) -> None:
        if not (math.isfinite(weight) and weight > 0):
            raise InvalidInput("bad_weight", f"A weight must be finite and > 0, not {weight}")
        if form == "delta":
            if self._base_buffer is None:
                raise InvalidInput("base_is_missing", "Updates of the form delta need the bytes of their base model")
        elif form != "model":
            raise InvalidInput("bad_form", f"An update is of the form model or delta, not {form!r}")

    def _note(self, weight: float, form: str) -> None:
        self._weight += weight
        self._delta_weight += weight if form == "delta" else 0.0
        self._count += 1

    def _segments(self, spec: ModelSpec) -> list[_Segment]:
        """Where each tensor that is not empty lies in the sums and in bytes of this spec, in the base's order."""
        found = []
        for tensor, sum_dtype, sum_start in self._place:
            there = spec.by_name[tensor.name]
            if there.size:
                found.append(_Segment(sum_dtype, sum_start, there.dtype, there.start, there.size))
        return found

    def _delta_bases(self) -> Iterator[Flat | None]:
        """For each of `_segments`, the tensor that deltas are differences to; None where they are values."""
        assert self._base_buffer is not None  # `add` and `merge` see to it
        for tensor, _, _ in self._place:
            if tensor.size:
                yield view(self._base_buffer, tensor).reshape(-1) if is_floating(tensor.dtype) else None


def _of_base_widths(spec: ModelSpec, base: ModelSpec) -> ModelSpec:
    """The spec with floating-point tensors in the base's dtypes: their widths are free, names and shapes are not."""
    tensors = tuple(
        tensor._replace(dtype=there.dtype)
        if (there := base.by_name.get(tensor.name)) and is_floating(tensor.dtype) and is_floating(there.dtype)
        else tensor
        for tensor in spec.tensors
    )
    return ModelSpec(tensors, spec.size_bytes)


def _joined(segments: list[_Segment]) -> list[_Segment]:
    """The same elements in as few segments as possible: neighbours in the sum and in the bytes become one."""
    joined: list[_Segment] = []
    for segment in segments:
        last = joined[-1] if joined else None
        if (
            last is not None
            and (last.sum_dtype, last.dtype) == (segment.sum_dtype, segment.dtype)
            and last.sum_start + last.size == segment.sum_start
            and last.start + last.size * last.dtype.itemsize == segment.start
        ):
            joined[-1] = last._replace(size=last.size + segment.size)
        else:
            joined.append(segment)
    return joined
