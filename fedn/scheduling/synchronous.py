"""The synchronous scheduler: a round ends when every client of its cohort has ended, one way or another."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedn.protocol.errors import InvalidInput
from fedn.protocol.tasks import UpdateMetadata
from fedn.scheduling.base import Progress, Verdict


class Synchronous:
    """Waits for all clients of the cohort, or for the deadline; commits with the quorum, tries again without it."""

    name = "synchronous"
    weighs_staleness = False

    def __init__(self, **options: Any) -> None:
        if options:
            raise InvalidInput(
                "unknown_option",
                f"the scheduler synchronous has no option {', '.join(sorted(options))}",
                fix="Leave scheduler.options empty.",
                where={"field": "scheduler.options"},
            )

    def budgets(self, cohort: Sequence[str], history: Mapping[str, UpdateMetadata]) -> Mapping[str, int | None]:
        return dict.fromkeys(cohort)

    def verdict(self, progress: Progress) -> Verdict:
        if progress.updated + progress.open < progress.required:
            return Verdict.RETRY
        return Verdict.WAIT if progress.pending else Verdict.COMMIT
