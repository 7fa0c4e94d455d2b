"""Combiner models become the global model, in the reducer.

Not here: what a mean is for each dtype (fedn.aggregation.numerics).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fedn.aggregation.numerics import PIECE, Flat, add_scaled, mean_dtype, store_mean, store_scaled
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


class _Run(NamedTuple):
    """Elements that lie together in the global model and in each combiner model."""

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
) -> bytearray:
    """The global model as a whole; see `combine_pieces`."""
    model = bytearray()
    for piece in combine_pieces(models, base, mean, sum_dtype):
        model += piece
    return model


def combine_pieces(
    models: Sequence[tuple[Buffer | Pieces, float]],
    base: ModelSpec,
    mean: Literal["weighted", "plain"] = "weighted",
    sum_dtype: str = "float64",
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

    Returns:
        The bytes in order, in pieces that fit the processor's cache. Each is good until the next one is asked for.
        Nothing of a model's size is allocated.

    Raises:
        InvalidInput: (`combiner_model_does_not_fit`) names, shapes or dtypes are not those of a mean for this base;
            (`bad_model`, `bad_weight`, `bad_sum_dtype`, `no_updates`); all of these before the first piece.
            (`sum_overflow`) the mean is not finite.
    """
    sources, weights, specs = _checked(models, base, mean)
    if sum_dtype not in {"float64", "float32"}:
        raise InvalidInput("bad_sum_dtype", f"There is no sum in {sum_dtype}", fix="Choose float64 or float32.")
    header, spec = layout((tensor.name, tensor.dtype, tensor.shape) for tensor in base.tensors)
    yield memoryview(header)
    longest = min(PIECE, spec.num_parameters)
    scratch: dict[DType, tuple[Flat, Flat]] = {}
    target = np.empty(longest * 8, np.uint8)
    total_weight = sum(weights)
    for run in _runs(spec.stored_order, specs):
        accumulator = np.dtype(sum_dtype if run.source_dtype == np.float32 else np.float64)
        if accumulator not in scratch:
            scratch[accumulator] = np.empty(longest, accumulator), np.empty(longest, accumulator)
        for start in range(0, run.size, PIECE):
            count = min(PIECE, run.size - start)
            total, term = (array[:count] for array in scratch[accumulator])
            out = target[: count * run.dtype.itemsize].view(run.dtype)
            with np.errstate(over="ignore", invalid="ignore"):  # looked for in the mean
                put = store_scaled
                for source, weight, begin in zip(sources, weights, run.starts, strict=True):
                    offset = begin + start * run.source_dtype.itemsize
                    for at, values in source.elements(run.source_dtype, offset, count):
                        put(total[at : at + len(values)], values, weight, term)
                    put = add_scaled
                store_mean(total, total_weight, out, term)
            yield target[: out.nbytes].data


def _checked(
    models: Sequence[tuple[Buffer | Pieces, float]], base: ModelSpec, mean: str
) -> tuple[list[Pieces], list[float], list[ModelSpec]]:
    """(bytes, weights, specs) of the models that count."""
    expected = mean_layout(base).spec
    sources, weights, specs = [], [], []
    for index, (model, weight) in enumerate(models):
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
    if not sources:
        raise InvalidInput("no_updates", "There is no mean of no updates")
    return sources, weights, specs


def does_not_fit(what: str, why: str) -> InvalidInput:
    return InvalidInput(
        "combiner_model_does_not_fit",
        f"{what} is no mean for this base model: {why}",
        fix="Run the same version of fedn on the reducer and the combiners.",
    )


def _runs(stored: Sequence[TensorInfo], specs: Sequence[ModelSpec]) -> list[_Run]:
    """The global model's elements in its order, in as few runs as possible."""
    runs: list[_Run] = []
    for tensor in stored:
        if not tensor.size:
            continue
        there = [spec.by_name[tensor.name] for spec in specs]
        starts = tuple(info.start for info in there)
        last = runs[-1] if runs else None
        if (
            last is not None
            and (last.dtype, last.source_dtype) == (tensor.dtype, there[0].dtype)
            and starts == tuple(start + last.size * last.source_dtype.itemsize for start in last.starts)
        ):
            runs[-1] = last._replace(size=last.size + tensor.size)
        else:
            runs.append(_Run(tensor.dtype, there[0].dtype, tensor.size, starts))
    return runs
