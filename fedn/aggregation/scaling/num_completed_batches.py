"""By work done."""

from typing import Any

from fedn.plan.option_values import NoValues, read_values
from fedn.protocol.tasks import UpdateMetadata


class NumCompletedBatches:
    """sₖ = bₖ / Σ bⱼ, with bₖ the update's `num_steps`, which every client must then report.

    A model counts as much as was computed for it in this round.
    """

    name = "NumCompletedBatches"
    required = frozenset({"num_steps"})
    Options = NoValues

    def __init__(self, **options: Any) -> None:
        read_values("scaling_factor", self.name, NoValues, options)

    def weight_of(self, metadata: UpdateMetadata) -> float:
        return float(metadata.num_steps)
