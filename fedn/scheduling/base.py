"""What a scheduler is: a policy that says what each client of a round may do, and when the round is over."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from fedn.plan.options import SCHEDULERS, load_option
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError
from fedn.protocol.rounds import StepBudgets
from fedn.protocol.tasks import UpdateMetadata


class Verdict(StrEnum):
    """What to do with a round now."""

    WAIT = "wait"
    COMMIT = "commit"
    RETRY = "retry"


@dataclass(frozen=True)
class Progress:
    """How far a round is, counted over the whole federation."""

    updated: int
    """Updates that count in combiner models that the reducer has, or that their combiners confirmed."""
    open: int
    """Tasks that may still end as an update."""
    pending: int
    """Tasks of any kind that have not ended, those that only validate included."""
    required: int
    """The quorum."""
    selected: int
    """Size of the cohort."""


class Scheduler(Protocol):
    """Built with the plan's options (unknown ones: InvalidInput). Holds no state that a restart would lose."""

    name: str
    required: frozenset[str]
    """Fields of an update's metadata that must be above 0."""
    uses_past: bool
    """Whether its budgets go by earlier rounds."""
    carries_over: bool
    """Whether tasks go on over a commit, to count in a later one; then it is a `CarryingScheduler`."""

    def __init__(self, **options: Any) -> None: ...

    def faults(self, plan: SessionPlan, rule: Any) -> Iterator[FednError]:
        """What of the plan cannot be done with it, each naming its field.

        Args:
            rule: of the plan, made; None where it could not be.
        """

    def budgets(
        self, cohort: Sequence[str], history: Mapping[str, UpdateMetadata], kept: StepBudgets | None
    ) -> StepBudgets | None:
        """Optimizer steps for clients of a round; one that is not in it makes as many as its learner decides.

        Args:
            cohort: clients of the round.
            history: what each client said of its latest work in this session.
            kept: the first budget that each client had in this session; None where there was none.
        """

    def verdict(self, progress: Progress) -> Verdict:
        """What to do with the round, asked after each change."""


class CarryingScheduler(Scheduler, Protocol):
    """One whose rounds end while clients work on: a round is a commit, and its ledger has what ended before it."""

    @property
    def max_staleness(self) -> int:
        """Commits after which an update does not count any more."""

    @property
    def concurrency(self) -> int | None:
        """Clients that train at the same time at the most; None: no limit."""

    def discount(self, staleness: int) -> float:
        """What an update is multiplied by that started from a model so many commits ago; > 0, and 1 for 0."""

    def share(self, staleness: int) -> float:
        """The same with the server's learning rate."""


def get_scheduler(name: str, options: Mapping[str, Any]) -> Scheduler:
    """The scheduler of that name. InvalidInput for an unknown name or option."""
    scheduler: Scheduler = load_option(SCHEDULERS, name)(**options)
    return scheduler
