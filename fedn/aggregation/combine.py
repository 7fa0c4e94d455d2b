"""Combiner models become the global model, in the reducer.

Not here: what a mean is for each dtype (fedn.aggregation.numerics).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fedn.aggregation.numerics import PIECE, Flat, add_scaled, is_floating, mean_dtype, store_mean, store_scaled
from fedn.aggregation.optimizers.step import OptimizerStep
from fedn.aggregation.values import UpdateValues
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import DType, ModelSpec, TensorInfo, differences, header_size, layout, read_spec
from fedn.protocol.errors import InvalidInput


@dataclass(frozen=True)
class MeanLayout:
    """What a combiner model is like, to the byte, but for its numbers."""

    header: bytes
    """The first bytes of the model, up to its tensors."""
    spec: ModelSpec
    is_global: bool
    """Whether a global model is like that too: then the mean of one combiner model is that model itself."""


def mean_layout(base: ModelSpec) -> MeanLayout:
    """Of the combiner models of a round that starts from this base model."""
    header, spec = layout((tensor.name, mean_dtype(tensor.dtype), tensor.shape) for tensor in base.tensors)
    return MeanLayout(header, spec, all(mean_dtype(tensor.dtype) == tensor.dtype for tensor in base.tensors))


@dataclass(frozen=True)
class FromBase:
    """What makes of the mean another model, with the base model's help; of floating-point tensors only."""

    model: Pieces
    """The base model's bytes."""
    shares: Sequence[float] | None = None
    """For each combiner model, what its difference to the base model is multiplied by; None: 1."""
    step: OptimizerStep | None = None
    """Of a server optimizer, from the base model towards the mean."""
    form: Literal["model", "delta"] = "model"
    """What the floating-point tensors of combiner models are: means, or means' differences to some base model, not
    necessarily this one, which they are then added to."""


class _Run(NamedTuple):
    """Elements that lie together in the global model and in each combiner model."""

    tensor: str
    """Where they are not those of one tensor, the first one's."""
    dtype: DType
    """In the global model."""
    source_dtype: DType
    size: int
    """Number of elements."""
    starts: tuple[int, ...]
    """Offset in the bytes of each combiner model."""


def combine(
    models: Sequence[tuple[Buffer | Pieces, float]],
    base: ModelSpec,
    mean: Literal["weighted", "plain"] = "weighted",
    sum_dtype: str = "float64",
    from_base: FromBase | None = None,
) -> bytearray:
    """The global model as a whole; see `combine_pieces`."""
    model = bytearray()
    for piece in combine_pieces(models, base, mean, sum_dtype, from_base):
        model += piece
    return model


def combine_pieces(
    models: Sequence[tuple[Buffer | Pieces, float]],
    base: ModelSpec,
    mean: Literal["weighted", "plain"] = "weighted",
    sum_dtype: str = "float64",
    from_base: FromBase | None = None,
) -> Iterator[memoryview]:
    """The global model: canonical safetensors bytes with the names, shapes and dtypes of the base model.

    With "weighted" and models that are weighted means, it equals the mean over all the clients, however they are
    spread over combiners. Floating-point tensors are rounded to nearest; integers to nearest, halves to even, and
    clipped to their range; bools are true where the mean is at least 0.5.

    Args:
        models: (bytes, weight) of each combiner model, as `Aggregate.result` makes them. One of weight 0 is left out.
        base: of the model that the updates were trained from.
        mean: "weighted": by the weights. "plain": each model that has a weight counts the same.
        sum_dtype: "float64" or "float32", as in `Rule.start`.
        from_base: where the global model is more than the mean.

    Returns:
        The bytes in order, in pieces that fit the processor's cache. Each is good until the next one is asked for.
        Nothing of a model's size is allocated.

    Raises:
        InvalidInput: (`combiner_model_does_not_fit`) names, shapes or dtypes are not those of a mean for this base;
            (`bad_model`, `bad_weight`, `bad_sum_dtype`, `no_updates`); all of these before the first piece.
            (`sum_overflow`) the mean is not finite. (`optimizer_diverged`) as `OptimizerStep.apply`.
    """
    shares = [1.0] * len(models) if from_base is None or from_base.shares is None else from_base.shares
    sources, weights, specs, shares = _checked(models, base, mean, shares)
    if sum_dtype not in {"float64", "float32"}:
        raise InvalidInput("bad_sum_dtype", f"There is no sum in {sum_dtype}", fix="Choose float64 or float32.")
    header, spec = layout((tensor.name, tensor.dtype, tensor.shape) for tensor in base.tensors)
    yield memoryview(header)
    longest = min(PIECE, spec.num_parameters)
    scratch: dict[DType, tuple[Flat, Flat]] = {}
    target = np.empty(longest * 8, np.uint8)
    finish = _FromSum(weights) if from_base is None else _FromSumAndBase(weights, shares, from_base)
    for run in _runs(spec.stored_order, specs, join=from_base is None):
        accumulator = np.dtype(sum_dtype if run.source_dtype == np.float32 else np.float64)
        if accumulator not in scratch:
            scratch[accumulator] = np.empty(longest, accumulator), np.empty(longest, accumulator)
        for start in range(0, run.size, PIECE):
            count = min(PIECE, run.size - start)
            total, term = (array[:count] for array in scratch[accumulator])
            out = target[: count * run.dtype.itemsize].view(run.dtype)
            with np.errstate(over="ignore", invalid="ignore"):  # looked for in the mean
                put = store_scaled
                for source, factor, begin in zip(sources, finish.factors(run.dtype), run.starts, strict=True):
                    offset = begin + start * run.source_dtype.itemsize
                    for at, values in source.elements(run.source_dtype, offset, count):
                        put(total[at : at + len(values)], values, factor, term)
                    put = add_scaled
                finish.store(run.tensor, start, total, out, term)
            yield target[: out.nbytes].data


def finish_pieces(
    values: UpdateValues, base: ModelSpec, sum_dtype: str = "float64", from_base: FromBase | None = None
) -> Iterator[memoryview]:
    """As `combine_pieces`, of one aggregate over all updates instead of combiner models' mean.

    Args:
        values: the aggregate, in float64.
    """
    header, spec = layout((tensor.name, tensor.dtype, tensor.shape) for tensor in base.tensors)
    yield memoryview(header)
    finish = _FromSum([1.0]) if from_base is None else _FromSumAndBase([1.0], [1.0], from_base)
    for tensor in spec.stored_order:
        single = mean_dtype(tensor.dtype) == np.float32
        total_dtype = np.dtype(sum_dtype if single else np.float64)
        for start in range(0, tensor.size, PIECE):
            stop = min(start + PIECE, tensor.size)
            total = values.read(tensor.name, start, stop).astype(total_dtype)
            out: Flat = np.empty(stop - start, tensor.dtype)
            with np.errstate(over="ignore", invalid="ignore"):  # looked for in the mean
                finish.store(tensor.name, start, total, out, np.empty(stop - start, total_dtype))
            yield out.view(np.uint8).data


class _FromSum:
    """The mean, of the weighted sum."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights
        self._weight = sum(weights)

    def factors(self, dtype: DType) -> Sequence[float]:
        """What the combiner models' elements of a tensor of this dtype are multiplied by in the sum."""
        return self._weights

    def store(self, tensor: str, first: int, total: Flat, out: Flat, scratch: Flat) -> None:
        """Stores what becomes of a sum; `total` may be overwritten.

        Args:
            tensor, first: whose elements they are, and the index of the first; of one tensor where there is a base.
        """
        store_mean(total, self._weight, out, scratch)


class _FromSumAndBase(_FromSum):
    """What `FromBase` says, of the weighted sum and the base model."""

    def __init__(self, weights: Sequence[float], shares: Sequence[float], how: FromBase) -> None:
        super().__init__(weights)
        self._scaled = [weight * share for weight, share in zip(weights, shares, strict=True)]
        if how.form == "delta":
            self._base_weight = self._weight
        else:
            self._base_weight = sum(weight * (1.0 - share) for weight, share in zip(weights, shares, strict=True))
        self._base = how.model
        self._base_spec = read_spec(how.model.copy(0, header_size(how.model.copy(0, 8)) or 0), len(how.model))
        self._step = how.step

    def factors(self, dtype: DType) -> Sequence[float]:
        return self._scaled if is_floating(dtype) else self._weights

    def store(self, tensor: str, first: int, total: Flat, out: Flat, scratch: Flat) -> None:
        step = self._step if self._step is not None and self._step.covers(tensor) else None
        if not is_floating(out.dtype) or (step is None and not self._base_weight):
            super().store(tensor, first, total, out, scratch)
            return
        base = self._elements(tensor, first, len(total), total.dtype)
        if step is None:
            store_mean(total, self._weight, out, scratch, base, self._base_weight)
            return
        total += self._base_weight * base
        total /= self._weight
        step.apply(tensor, first, base, total)
        try:
            store_mean(base, 1.0, out, scratch)
        except InvalidInput as error:  # finite, but not in the model's own dtype
            raise step.diverged(tensor) from error

    def _elements(self, tensor: str, first: int, size: int, dtype: DType) -> Flat:
        """A copy of elements [first, first + size) of the base model's tensor, in this dtype."""
        info = self._base_spec.by_name[tensor]
        room = np.empty(size, dtype)
        for at, values in self._base.elements(info.dtype, info.start + first * info.dtype.itemsize, size):
            np.copyto(room[at : at + len(values)], values, casting="unsafe")
        return room


def _checked(
    models: Sequence[tuple[Buffer | Pieces, float]], base: ModelSpec, mean: str, shares: Sequence[float]
) -> tuple[list[Pieces], list[float], list[ModelSpec], list[float]]:
    """(bytes, weights, specs, shares) of the models that count."""
    expected = mean_layout(base).spec
    sources, weights, specs, counted = [], [], [], []
    for index, ((model, weight), share) in enumerate(zip(models, shares, strict=True)):
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidInput("bad_weight", f"Combiner model {index} has the weight {weight}")
        if weight == 0:
            continue
        pieces = model if isinstance(model, Pieces) else Pieces.of(model)
        spec = read_spec(pieces.copy(0, header_size(pieces.copy(0, 8)) or 0), len(pieces))
        if faults := differences(spec, expected):
            raise does_not_fit(f"Combiner model {index}", "; ".join(faults[:20]))
        sources.append(pieces)
        weights.append(weight if mean == "weighted" else 1.0)
        specs.append(spec)
        counted.append(share)
    if not sources:
        raise InvalidInput("no_updates", "There is no mean of no updates")
    return sources, weights, specs, counted


def does_not_fit(what: str, why: str) -> InvalidInput:
    return InvalidInput(
        "combiner_model_does_not_fit",
        f"{what} is no mean for this base model: {why}",
        fix="Run the same version of fedn on the reducer and the combiners.",
    )


def _runs(stored: Sequence[TensorInfo], specs: Sequence[ModelSpec], *, join: bool) -> list[_Run]:
    """The global model's elements in its order, in as few runs as possible; each of one tensor unless they `join`."""
    runs: list[_Run] = []
    for tensor in stored:
        if not tensor.size:
            continue
        there = [spec.by_name[tensor.name] for spec in specs]
        starts = tuple(info.start for info in there)
        last = runs[-1] if runs else None
        if (
            join
            and last is not None
            and (last.dtype, last.source_dtype) == (tensor.dtype, there[0].dtype)
            and starts == tuple(start + last.size * last.source_dtype.itemsize for start in last.starts)
        ):
            runs[-1] = last._replace(size=last.size + tensor.size)
        else:
            runs.append(_Run(tensor.name, tensor.dtype, there[0].dtype, tensor.size, starts))
    return runs
