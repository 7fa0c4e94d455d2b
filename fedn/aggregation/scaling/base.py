"""What a scaling factor is, and how the metadata that it needs are checked."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from fedn.plan.options import SCALING_FACTORS, load_option
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.tasks import UpdateMetadata


class ScalingFactor(Protocol):
    """Built with the plan's options (unknown ones: InvalidInput). Has no state."""

    name: str
    required: frozenset[str]
    """Fields of an update's metadata that must be above 0."""

    def __init__(self, **options: Any) -> None: ...

    def weight_of(self, metadata: UpdateMetadata) -> float:
        """sₖ, not normalised: what an update is multiplied by in a sum; > 0 where the required metadata are there."""


def get_scaling_factor(name: str, options: Mapping[str, Any]) -> ScalingFactor:
    """The scaling factor of that name. InvalidInput for an unknown name or option."""
    factor: ScalingFactor = load_option(SCALING_FACTORS, name)(**options)
    return factor


def check_required(metadata: UpdateMetadata, required: Iterable[tuple[str, str]]) -> None:
    """Raises UpdateRefused (`update_lacks_metadata`) where a number is missing.

    Args:
        required: (field, who needs it) pairs; a field that does not exist is missing.
    """
    for field, who in required:
        value = getattr(metadata, field) if field in UpdateMetadata.model_fields else None
        if not (isinstance(value, int | float) and value > 0):
            raise UpdateRefused(
                "update_lacks_metadata",
                f"the update does not say {field}, which {who} needs",
                fix=f"Return {field} above 0 with each update.",
                where={"client": metadata.client, "task": metadata.task_id, "field": field},
            )
