"""What a swarm counts and times. Counts of several processes add up, and so do their histograms."""

import math
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import BaseModel, Field

_GROWTH = 1.05
"""Of the bounds of a histogram's buckets: percentiles are right to 5 %."""
_LEAST_MS = 0.01


class Histogram(BaseModel):
    """Durations in milliseconds, in buckets whose bounds grow by 5 %."""

    buckets: dict[int, int] = Field(default_factory=dict)
    """Number of the bucket to how many are in it; bucket k ends at 0.01 · 1.05^k ms."""
    count: int = 0
    total_ms: float = 0.0
    max_ms: float = 0.0

    def add(self, seconds: float) -> None:
        ms = seconds * 1000
        bucket = max(0, math.ceil(math.log(max(ms, _LEAST_MS) / _LEAST_MS, _GROWTH)))
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1
        self.total_ms += ms
        self.max_ms = max(self.max_ms, ms)

    def merge(self, other: "Histogram") -> None:
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.count += other.count
        self.total_ms += other.total_ms
        self.max_ms = max(self.max_ms, other.max_ms)

    def percentile(self, part: float) -> float:
        """Milliseconds within which that part (0..1) of the durations lie; 0 where there are none."""
        wanted, seen = part * self.count, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(_LEAST_MS * _GROWTH**bucket, self.max_ms)
        return 0.0

    def summary(self) -> dict[str, float]:
        """count, mean, p50, p90, p99, max; times in milliseconds."""
        return {
            "count": self.count,
            "mean_ms": round(self.total_ms / self.count, 3) if self.count else 0.0,
            "p50_ms": round(self.percentile(0.5), 3),
            "p90_ms": round(self.percentile(0.9), 3),
            "p99_ms": round(self.percentile(0.99), 3),
            "max_ms": round(self.max_ms, 3),
        }


class SwarmStatistics(BaseModel):
    """Of one process, or of several added up."""

    clients: int = 0
    """That were told to run."""
    enrolled: int = 0
    attached: int = 0
    """Now."""
    away: int = 0
    """Now, on purpose."""
    gave_up: dict[str, int] = Field(default_factory=dict)
    """Error code to the clients that ended by it: trying again cannot help."""
    attachments: int = 0
    """Welcomes, of the first and of each later attachment."""
    breaks: dict[str, int] = Field(default_factory=dict)
    """Error code to the attachments and calls that ended by it and were tried again."""
    tasks: int = 0
    """That came, each once, however often it is asked again."""
    updated: int = 0
    """Results that were acknowledged."""
    refused: dict[str, int] = Field(default_factory=dict)
    """Error code to the results refused by it."""
    cancelled: int = 0
    """Tasks that the combiner called off."""
    failed: int = 0
    """Tasks that the clients reported as failed."""
    went_away: int = 0
    """Times that a client left or vanished on purpose."""
    received_bytes: int = 0
    """Of pieces."""
    sent_bytes: int = 0
    """Of pieces."""
    models: int = 0
    """Received whole, and of the right digest."""
    damaged: int = 0
    """Objects that arrived as something else."""
    rss_bytes: int = 0
    open_files: int = 0
    """Now."""
    cpu_s: float = 0.0
    """Processor seconds of the process."""
    enrol: Histogram = Field(default_factory=Histogram)
    """One enrolment."""
    assign: Histogram = Field(default_factory=Histogram)
    """One question for a combiner."""
    attach: Histogram = Field(default_factory=Histogram)
    """From opening a connection to the welcome."""
    ping: Histogram = Field(default_factory=Histogram)
    """From a ping to its answer."""
    grant: Histogram = Field(default_factory=Histogram)
    """From the announcement of a result to its grant."""
    upload: Histogram = Field(default_factory=Histogram)
    """From the first grant to the acknowledgement."""
    task: Histogram = Field(default_factory=Histogram)
    """From a task's arrival to the acknowledgement of its result."""

    def count_break(self, code: str) -> None:
        self.breaks[code] = self.breaks.get(code, 0) + 1

    def merge(self, other: "SwarmStatistics") -> None:
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Histogram):
                mine.merge(theirs)
            elif isinstance(mine, dict):
                for code, count in theirs.items():
                    mine[code] = mine.get(code, 0) + count
            else:
                setattr(self, name, mine + theirs)

    @classmethod
    def sum_of(cls, parts: Iterable[Self]) -> Self:
        whole = cls()
        for part in parts:
            whole.merge(part)
        return whole

    def as_data(self) -> Mapping[str, object]:
        """For `--json`: counts as they are, histograms as their summaries."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: one.summary() if isinstance(one, Histogram) else one for name, one in found.items()}
