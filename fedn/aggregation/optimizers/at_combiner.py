"""An optimizer's step at a combiner: from the base model towards the mean of the combiner's own clients.

The result is a combiner model like others, of which the reducer takes the mean. Each combiner has a state of its own.
"""

from collections.abc import Iterator

from fedn.aggregation.combine import FromBase, combine_pieces, mean_layout
from fedn.aggregation.optimizers.step import OptimizerStep
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec


def stepped(
    mean: Pieces, base: ModelSpec, base_model: Pieces, step: OptimizerStep, sum_dtype: str = "float64"
) -> Iterator[memoryview]:
    """The bytes of the combiner model, in pieces; each is good until the next one is asked for.

    Args:
        mean: the combiner model before the step, as `Aggregate.result` makes it.
        base, base_model: of the round.
        step: made for this base; its state is there after the last piece.

    Raises:
        InvalidInput: as `combine_pieces`.
    """
    return combine_pieces(
        [(mean, 1.0)], mean_layout(base).spec, "weighted", sum_dtype, FromBase(base_model, None, step)
    )
