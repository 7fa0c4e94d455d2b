"""When a session has trained enough, before all its rounds are done: what a plan may say of it. Pure.

The reducer decides, as everything of a round, so that who started the session may be away.
"""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MetricCutoff(BaseModel):
    """A value of a validation metric that is good enough."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str = Field(min_length=1, max_length=128)
    """As the clients' code names it."""
    cutoff: float
    mode: Literal["max", "min"] = "max"
    """max: at least the cutoff (accuracy); min: at most (loss)."""

    def reached_by(self, metrics: Mapping[str, float]) -> bool:
        """Whether the means over the clients are good enough; a mean that is missing or NaN is not."""
        value = metrics.get(self.metric, math.nan)
        return value >= self.cutoff if self.mode == "max" else value <= self.cutoff

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.mode == 'max' else '<='} {self.cutoff:g}"
