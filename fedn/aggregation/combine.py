"""Combiner models become the global model, in the reducer.

Not here: what a mean is for each dtype (fedn.aggregation.numerics).
"""

import math
from collections.abc import Sequence
from typing import Literal

from fedn.aggregation.accumulator import Accumulator
from fedn.aggregation.numerics import mean_dtype
from fedn.models.digest import Buffer
from fedn.models.wire import ModelSpec, differences, layout, read_spec
from fedn.protocol.errors import InvalidInput


def combine(
    models: Sequence[tuple[Buffer, float]],
    base: ModelSpec,
    mean: Literal["weighted", "plain"] = "weighted",
    sum_dtype: str = "float64",
) -> bytearray:
    """The global model: canonical safetensors bytes with the names, shapes and dtypes of the base model.

    With "weighted" and models that are weighted means, it equals the mean over all the clients, however they are
    spread over combiners. Floating-point tensors are rounded to nearest; integers to nearest, halves to even, and
    clipped to their range; bools are true where the mean is at least 0.5.

    Args:
        models: (bytes, weight) of each combiner model, as `Aggregate.result` gives them. One of weight 0 is left out.
        base: of the model that the updates were trained from.
        mean: "weighted": by the weights. "plain": each model that has a weight counts the same.
        sum_dtype: "float64" or "float32", as in `Rule.start`.

    Raises:
        InvalidInput: (`combiner_model_does_not_fit`) names, shapes or dtypes are not those of a mean for this base;
            (`bad_model`, `bad_weight`, `no_updates`, `sum_overflow`).
    """
    _, expected = layout((tensor.name, mean_dtype(tensor.dtype), tensor.shape) for tensor in base.tensors)
    total = Accumulator(expected, sum_dtype)
    for index, (model, weight) in enumerate(models):
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidInput("bad_weight", f"Combiner model {index} has the weight {weight}")
        if weight == 0:
            continue
        spec = read_spec(model)
        if faults := differences(spec, expected):
            raise InvalidInput(
                "combiner_model_does_not_fit",
                f"Combiner model {index} is no mean for this base model: {'; '.join(faults[:20])}",
                fix="Run the same version of fedn on the reducer and the combiners.",
            )
        total.add(model, spec, weight if mean == "weighted" else 1.0)
    merged = bytearray()
    for piece in total.mean([(tensor.name, tensor.dtype, tensor.shape) for tensor in base.tensors]):
        merged += piece
    return merged
