"""The semi-synchronous scheduler: every client of a round works for about the same time (Stripelis et al. 2022)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from fedn.plan.option_values import OptionValues, read_values
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError, InvalidInput
from fedn.protocol.rounds import StepBudget, StepBudgets
from fedn.protocol.tasks import UpdateMetadata
from fedn.scheduling.synchronous import Barrier

MAX_STEPS = 1_000_000_000
"""Of one task: a client that says its steps take no time is not asked for more than that."""
_LONGEST_MS = 1e12
"""Thirty years: a client that says so does not know its times."""


class SemiSynchronous(Barrier):
    """Waits as `synchronous`, but gives every client as many steps as fill the time λ·max(ms per epoch).

    Client k makes ceil(λ·max(ms per epoch) / ms per step of k) steps, so that nobody waits for the slowest one
    (Stripelis, Thompson & Ambite 2022, ACM TIST 13(5)). The times are those that the clients report with their
    updates. A client that has reported none yet, as all in the first round, makes the epochs that its learner makes
    by itself.
    """

    name = "semi_synchronous"
    required = frozenset({"ms_per_step", "ms_per_epoch"})
    uses_past = True

    class Options(OptionValues):
        factor: float = Field(default=1.0, gt=0, le=1e6, alias="lambda")
        """λ: how long a round's work takes, in epochs of the slowest client; need not be whole."""
        recompute: bool = True
        """Work the budgets out anew for each round; else those of the first measurements stay."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("scheduler", self.name, self.Options, options)

    def faults(self, plan: SessionPlan, rule: Any) -> Iterator[FednError]:
        if plan.deterministic:
            yield InvalidInput(
                "bad_plan",
                "the scheduler semi_synchronous goes by measured times, which no second run repeats",
                fix="Leave deterministic out, or choose the scheduler synchronous.",
                where={"field": "deterministic"},
            )

    def budgets(
        self, cohort: Sequence[str], history: Mapping[str, UpdateMetadata], kept: StepBudgets | None
    ) -> StepBudgets | None:
        measured = {client: history[client] for client in cohort if client in history and _timed(history[client])}
        if self._options.recompute or kept is None:
            if not measured:
                return None
            slowest = max(sorted(measured), key=lambda client: measured[client].ms_per_epoch)
            kept = StepBudgets(window_ms=self._options.factor * measured[slowest].ms_per_epoch, slowest=slowest)
        found = {client: kept.clients[client] for client in cohort if client in kept.clients}
        for client, metadata in measured.items():
            if client not in found:
                steps = math.ceil(min(MAX_STEPS, kept.window_ms / metadata.ms_per_step))
                found[client] = StepBudget(steps=max(1, steps), ms_per_step=metadata.ms_per_step)
        return kept.model_copy(update={"clients": found})


def _timed(metadata: UpdateMetadata) -> bool:
    """Whether it says how fast the client is. One that only validated does not."""
    return all(0 < time <= _LONGEST_MS for time in (metadata.ms_per_step, metadata.ms_per_epoch))
