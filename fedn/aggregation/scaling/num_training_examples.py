"""By examples."""

from typing import Any

from fedn.plan.option_values import NoValues, read_values
from fedn.protocol.tasks import UpdateMetadata


class NumTrainingExamples:
    """sₖ = nₖ / Σ nⱼ, with nₖ the update's `num_examples` (McMahan et al. 2017).

    A model counts as much as there are data behind it.
    """

    name = "NumTrainingExamples"
    required = frozenset({"num_examples"})
    Options = NoValues

    def __init__(self, **options: Any) -> None:
        read_values("scaling_factor", self.name, NoValues, options)

    def weight_of(self, metadata: UpdateMetadata) -> float:
        return float(metadata.num_examples)
