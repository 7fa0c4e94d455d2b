"""The synchronous scheduler: a round ends when every client of its cohort has ended, one way or another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedn.plan.option_values import NoValues, read_values
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError
from fedn.protocol.rounds import StepBudgets
from fedn.protocol.tasks import UpdateMetadata
from fedn.scheduling.base import Progress, Verdict


class Barrier:
    """What schedulers have in common whose rounds end for all clients at once."""

    carries_over = False

    def verdict(self, progress: Progress) -> Verdict:
        """Commits with the quorum when nothing is open any more, and tries again where it cannot be reached."""
        if progress.updated + progress.open < progress.required:
            return Verdict.RETRY
        return Verdict.WAIT if progress.pending else Verdict.COMMIT


class Synchronous(Barrier):
    """Waits for all clients of the cohort, or for the deadline; commits with the quorum, tries again without it."""

    name = "synchronous"
    required: frozenset[str] = frozenset()
    uses_past = False
    Options = NoValues

    def __init__(self, **options: Any) -> None:
        read_values("scheduler", self.name, NoValues, options)

    def faults(self, plan: SessionPlan, rule: Any) -> Iterator[FednError]:
        return iter(())

    def budgets(
        self, cohort: Sequence[str], history: Mapping[str, UpdateMetadata], kept: StepBudgets | None
    ) -> StepBudgets | None:
        """Every learner decides its steps."""
        return None
