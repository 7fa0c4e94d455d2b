"""By heads."""

from typing import Any

from fedn.plan.option_values import NoValues, read_values
from fedn.protocol.tasks import UpdateMetadata


class NumParticipants:
    """sₖ = 1 / N: each update counts the same."""

    name = "NumParticipants"
    required: frozenset[str] = frozenset()
    Options = NoValues

    def __init__(self, **options: Any) -> None:
        read_values("scaling_factor", self.name, NoValues, options)

    def weight_of(self, metadata: UpdateMetadata) -> float:
        return 1.0
