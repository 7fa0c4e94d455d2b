"""What a scheduler is: a policy that says what each client of a round may do, and when the round is over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from fedn.plan.options import load_option
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
    weighs_staleness: bool
    """Whether it weighs updates by their age, for which servers must read them."""

    def budgets(self, cohort: Sequence[str], history: Mapping[str, UpdateMetadata]) -> Mapping[str, int | None]:
        """Optimizer steps at the most for each client; None: as its learner decides.

        Args:
            cohort: clients of the round.
            history: what each client said of its latest work in this session.
        """

    def verdict(self, progress: Progress) -> Verdict:
        """What to do with the round, asked after each change."""


def get_scheduler(name: str, options: Mapping[str, Any]) -> Scheduler:
    """The scheduler of that name. InvalidInput for an unknown name or option."""
    scheduler: Scheduler = load_option("fedn.schedulers", name)(**options)
    return scheduler
