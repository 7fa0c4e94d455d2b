"""The weighted sum of models that every linear rule shares, and its mean.

Not here: the arithmetic itself, and what a mean is for each dtype (fedn.aggregation.numerics).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from fedn.aggregation.checks import check_header, check_weight, of_base_widths
from fedn.aggregation.numerics import (
    PIECE,
    Flat,
    add_scaled,
    add_source,
    is_floating,
    mean_dtype,
    store_mean,
    store_scaled,
)
from fedn.aggregation.sharing import share as in_parts
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import DType, ModelSpec, TensorInfo, differences, layout
from fedn.protocol.errors import InvalidInput

Entry = tuple[str, DType, Sequence[int]]
"""Name, dtype and shape of a tensor."""

_Put = Callable[[Flat, Flat, float, Flat], None]
"""add_scaled or store_scaled."""

_RESULT_PIECE_BYTES = 1 << 20


class _Segment(NamedTuple):
    """Elements that lie together in a sum and in a model's bytes."""

    sum_dtype: DType
    sum_start: int
    dtype: DType
    start: int
    """Offset in the bytes."""
    size: int
    """Number of elements."""

    @property
    def sum_place(self) -> tuple[DType, int]:
        return self.sum_dtype, self.sum_start

    @property
    def stop(self) -> int:
        """Offset behind the last element."""
        return self.start + self.size * self.dtype.itemsize

    def of_sum(self, sums: dict[DType, Flat], first: int, size: int) -> Flat:
        """`size` elements of the sum, from number `first` of this segment on."""
        begin = self.sum_start + first
        return sums[self.sum_dtype][begin : begin + size]


class Accumulator:
    """A weighted sum of models with the names, shapes and dtypes of `base`, and the weight it stands for.

    The law, up to rounding: `add` and `merge` commute and associate; a fresh accumulator is neutral; the weight of a
    merged sum is the sum of the weights. `result` is the sum divided by the weight and leaves the sum as it is.

    The sum is one flat vector in the order of the base's bytes. With sum_dtype float32 there are two: tensors whose
    mean needs float64 (float64, integers, bool) keep it. Memory: the sums and pieces of scratch, whatever the number of
    updates. For one thread at a time; it has large updates added by several (`fedn.aggregation.sharing`).

    Args:
        base: of the models to be added.
        sum_dtype: "float64" or "float32".
        base_model: bytes of the base model; needed for updates of the form "delta", and for shares other than 1.
    """

    def __init__(self, base: ModelSpec, sum_dtype: str = "float64", base_model: Buffer | Pieces | None = None) -> None:
        if sum_dtype not in {"float64", "float32"}:
            raise InvalidInput("bad_sum_dtype", f"There is no sum in {sum_dtype}", fix="Choose float64 or float32.")
        self._base = base
        self._base_model = None if base_model is None else _in_pieces(base_model)
        self._place: list[tuple[TensorInfo, DType, int]] = []
        sizes = {np.dtype(np.float64): 0, np.dtype(sum_dtype): 0}
        for tensor in base.stored_order:
            dtype = np.dtype(sum_dtype) if mean_dtype(tensor.dtype) == np.float32 else np.dtype(np.float64)
            self._place.append((tensor, dtype, sizes[dtype]))
            sizes[dtype] += tensor.size
        self._sizes = sizes
        self._sums: dict[DType, Flat] = {}
        """Made with the first model, which is stored rather than added: fresh memory is written once."""
        self._scratch: dict[DType, Flat] = {dtype: np.empty(min(PIECE, size), dtype) for dtype, size in sizes.items()}
        self._base_dtype = {(dtype, sum_start): tensor.dtype for tensor, dtype, sum_start in self._place if tensor.size}
        self._known_layout = base.tensors
        self._known_segments = _joined(self._segments(base))
        self._weight = 0.0
        self._base_weight = 0.0
        self._count = 0

    @property
    def weight(self) -> float:
        """Sum of the weights that were added."""
        return self._weight

    @property
    def count(self) -> int:
        """Number of models that were added."""
        return self._count

    @property
    def stretch(self) -> float:
        """What the mean's difference to the base model is multiplied by in the result; floating-point tensors only."""
        return 1.0

    def add(
        self, update: Buffer | Pieces, spec: ModelSpec, weight: float, *, form: str = "model", share: float = 1.0
    ) -> None:
        """Adds weight * update; see `fedn.aggregation.base.Aggregate.add`."""
        self._check(weight, form, share)
        self._put(update, spec, weight, share)
        self._note(weight, form, share)

    def take_out(self, update: Buffer | Pieces, spec: ModelSpec, weight: float) -> None:
        """Subtracts weight * update, which was added in the form "model" with this weight.

        The products are those that were added, to the bit: only the sums are rounded.

        Raises:
            UpdateRefused, InvalidInput: as `add`; nothing is subtracted.
        """
        self._check(weight, "model", 1.0)
        self._put(update, spec, -weight, 1.0)
        self._weight -= weight
        self._count -= 1

    def _put(self, update: Buffer | Pieces, spec: ModelSpec, weight: float, share: float) -> None:
        """Adds weight * update to the sums, and for floating-point tensors weight * share * update."""
        if len(update) < spec.size_bytes:
            raise ValueError(f"the update has {len(update)} bytes and its spec {spec.size_bytes}")
        # Most updates have the layout of the one before: then there is nothing to check and to work out anew.
        if spec.tensors != self._known_layout:
            check_header(of_base_widths(spec, self._base), self._base)
            self._known_segments = _joined(self._segments(spec))
            self._known_layout = spec.tensors
        put = add_scaled if self._sums else store_scaled
        self._make_sums()
        pieces = _in_pieces(update)
        for segment in self._known_segments:
            factor = weight * share if is_floating(segment.dtype) else weight
            in_parts(segment.size, partial(self._put_range, put, pieces, segment, factor))

    def _put_range(self, put: _Put, pieces: Pieces, segment: _Segment, weight: float, start: int, stop: int) -> None:
        """Puts elements [start, stop) of a segment into the sum; several threads may, each with a range of its own."""
        scratch = self._scratch[segment.sum_dtype]
        if stop - start < segment.size:
            scratch = np.empty_like(scratch)
        begin = segment.start + start * segment.dtype.itemsize
        with np.errstate(over="ignore", invalid="ignore"):  # looked for in the result
            for first, values in pieces.elements(segment.dtype, begin, stop - start):
                put(segment.of_sum(self._sums, start + first, len(values)), values, weight, scratch)

    def add_encoded(self, payload: Payload, weight: float, *, form: str = "model", share: float = 1.0) -> None:
        """Adds weight * update, decoded piece by piece; see `fedn.aggregation.base.Aggregate.add_encoded`."""
        if payload.plain:
            return self.add(payload.data, payload.spec, weight, form=form, share=share)
        self._check(weight, form, share)
        check_header(payload.base, self._base)
        fresh = not self._sums
        self._make_sums()
        put = store_scaled if fresh else add_scaled
        with np.errstate(over="ignore", invalid="ignore"):  # looked for in the result
            for tensor, sum_dtype, sum_start in self._place:
                total, scratch = self._sums[sum_dtype][sum_start : sum_start + tensor.size], self._scratch[sum_dtype]
                source = payload.sources.get(tensor.name)
                factor = weight * share if is_floating(tensor.dtype) else weight
                if source is not None:
                    add_source(total, source, factor, scratch, fresh=fresh)
                    continue
                for first, values in payload.elements(tensor.name):
                    put(total[first : first + len(values)], values, factor, scratch)
        return self._note(weight, form, share)

    def merge(self, other: Self) -> None:
        """Adds what `other` holds; see `fedn.aggregation.base.Aggregate.merge`."""
        if other._place != self._place or other._sizes.keys() != self._sizes.keys():
            raise InvalidInput("aggregates_do_not_fit", "The aggregates are of different base models or sum dtypes")
        if other._base_weight and self._base_model is None:
            raise InvalidInput("base_is_missing", "Updates of the form delta need the bytes of their base model")
        mine = bool(self._sums)
        if other._sums:
            self._make_sums()
        with np.errstate(over="ignore", invalid="ignore"):
            for dtype, more in other._sums.items():
                if mine:
                    np.add(self._sums[dtype], more, out=self._sums[dtype])
                else:
                    np.copyto(self._sums[dtype], more)
        self._weight += other._weight
        self._base_weight += other._base_weight
        self._count += other._count

    def result(self, piece_bytes: int = _RESULT_PIECE_BYTES) -> Iterator[memoryview]:
        """The mean, with each tensor in its `mean_dtype`; see `fedn.aggregation.base.Aggregate.result`."""
        return self.mean(self._mean_entries(), piece_bytes)

    def difference(self, piece_bytes: int = _RESULT_PIECE_BYTES) -> Iterator[memoryview]:
        """The mean's difference to the base model; see `fedn.aggregation.base.SummedAggregate.difference`.

        Raises:
            InvalidInput: (`no_updates`, `sum_overflow`) as `mean`; (`base_is_missing`) it needs the base model's bytes.
        """
        # With S the sum, b the base's weight and W the weight: (S + b·x)/W − x = (S + (b − W)·x) / W.
        self._check_count()
        base_weight = self._base_weight - self._weight
        if base_weight and self._base_model is None:
            raise InvalidInput("base_is_missing", "A difference to the base model needs its bytes")
        factors = (self._weight, base_weight) if base_weight else None
        return self._mean_pieces(*layout(self._mean_entries()), piece_bytes, factors)

    def _mean_entries(self) -> list[Entry]:
        return [(tensor.name, mean_dtype(tensor.dtype), tensor.shape) for tensor in self._base.tensors]

    def mean(self, entries: Sequence[Entry], piece_bytes: int = _RESULT_PIECE_BYTES) -> Iterator[memoryview]:
        """The mean in canonical safetensors bytes, in the dtypes and the order of `entries`, piece by piece.

        Args:
            entries: (name, dtype, shape) of each tensor; names and shapes are those of the base.
            piece_bytes: of each piece but the last; a multiple of 64. A piece is valid until the next one is asked for.

        Raises:
            InvalidInput: (`no_updates`) nothing was added; (`sum_overflow`) the mean is not finite.
        """
        # With S the sum, b the base's weight, W the weight and f the stretch, the result is
        # x + f·((S + b·x) / W − x) = (S + (b + W/f − W)·x) / (W/f).
        self._check_count()
        weight = self._weight / self.stretch
        needs_base = self._base_weight != 0.0 or weight != self._weight
        factors = (weight, self._base_weight + weight - self._weight) if needs_base else None
        return self._mean_pieces(*layout(entries), piece_bytes, factors)

    def _check_count(self) -> None:
        if self._count == 0:
            raise InvalidInput("no_updates", "There is no mean of no updates")

    def _mean_pieces(
        self, header: bytes, spec: ModelSpec, piece_bytes: int, factors: tuple[float, float] | None
    ) -> Iterator[memoryview]:
        """With factors w and b, (S + b·x) / w in the floating-point tensors, and S / W in all others."""
        segments = self._segments(spec)
        if factors is None:
            segments = _joined(segments)
        segments.sort(key=lambda segment: segment.start)
        bases = {} if factors is None else {place: (start, *factors) for place, start in self._bases().items()}
        room = np.empty(min(piece_bytes, spec.size_bytes), np.uint8)
        at = 0
        for begin in range(0, spec.size_bytes, piece_bytes):
            end = min(begin + piece_bytes, spec.size_bytes)
            piece = room[: end - begin]
            if begin < len(header):
                part = np.frombuffer(header[begin:end], np.uint8)
                piece[: len(part)] = part
            while at < len(segments) and segments[at].stop <= begin:
                at += 1
            number = at
            while number < len(segments) and segments[number].start < end:
                self._store_mean(segments[number], begin, piece, bases.get(segments[number].sum_place))
                number += 1
            yield piece.data

    def _store_mean(self, segment: _Segment, offset: int, piece: Flat, base: tuple[int, float, float] | None) -> None:
        """Stores what of a segment lies in the piece, which has this offset in the model.

        Args:
            base: where in the base's bytes its elements lie, and the factors w and b; None for S / W.
        """
        itemsize = segment.dtype.itemsize
        begin, end = max(segment.start, offset), min(segment.stop, offset + piece.nbytes)
        first, size = (begin - segment.start) // itemsize, (end - begin) // itemsize
        out = piece[begin - offset : end - offset].view(segment.dtype)
        total, scratch = segment.of_sum(self._sums, first, size), self._scratch[segment.sum_dtype]
        with np.errstate(over="ignore", invalid="ignore"):
            if base is None:
                store_mean(total, self._weight, out, scratch)
                return
            assert self._base_model is not None  # `add` and `merge` see to it
            base_start, weight, base_weight = base
            dtype = self._base_dtype[segment.sum_place]
            for at, values in self._base_model.elements(dtype, base_start + first * dtype.itemsize, size):
                run = slice(at, at + len(values))
                store_mean(total[run], weight, out[run], scratch, values, base_weight)

    def _check(self, weight: float, form: str, share: float) -> None:
        check_weight(weight)
        if not (math.isfinite(share) and share >= 0):
            raise InvalidInput("bad_weight", f"A share must be finite and >= 0, not {share}")
        if form not in {"model", "delta"}:
            raise InvalidInput("bad_form", f"An update is of the form model or delta, not {form!r}")

        if (form == "delta" or share != 1.0) and self._base_model is None:
            raise InvalidInput("base_is_missing", "Updates of the form delta need the bytes of their base model")

    def _fits(self, spec: ModelSpec) -> bool:
        """Whether such an update has the base's names, shapes and dtypes, but for the widths of floats."""
        return spec.tensors == self._known_layout or not differences(of_base_widths(spec, self._base), self._base)

    def _note(self, weight: float, form: str, share: float) -> None:
        self._weight += weight
        self._base_weight += weight * (1.0 - share) + (weight * share if form == "delta" else 0.0)
        self._count += 1

    def _segments(self, spec: ModelSpec) -> list[_Segment]:
        """Where each tensor that is not empty lies in the sums and in bytes of this spec, in the base's order."""
        found = []
        for tensor, sum_dtype, sum_start in self._place:
            there = spec.by_name[tensor.name]
            if there.size:
                found.append(_Segment(sum_dtype, sum_start, there.dtype, there.start, there.size))
        return found

    def _bases(self) -> dict[tuple[DType, int], int]:
        """Where in the base's bytes each tensor begins that deltas are differences to, by its place in the sums."""
        return {
            (dtype, sum_start): tensor.start
            for tensor, dtype, sum_start in self._place
            if tensor.size and is_floating(tensor.dtype)
        }

    def _make_sums(self) -> None:
        if not self._sums:
            self._sums = {dtype: np.empty(size, dtype) for dtype, size in self._sizes.items()}


def _in_pieces(model: Buffer | Pieces) -> Pieces:
    return model if isinstance(model, Pieces) else Pieces.of(model)


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
