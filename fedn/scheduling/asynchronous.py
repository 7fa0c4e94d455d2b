"""The asynchronous scheduler: a commit after every K updates, which stops nobody (FedBuff, Nguyen et al. 2022)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from fedn.plan.option_values import OptionValues, read_values
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError, InvalidInput
from fedn.protocol.rounds import HandsUp, StepBudgets
from fedn.protocol.tasks import UpdateMetadata
from fedn.scheduling.base import Progress, Verdict
from fedn.scheduling.staleness import Polynomial, Staleness


class Asynchronous:
    """Commits after K updates, from whichever clients; all others work on, and count later (Nguyen et al. 2022).

    With x the global model, Δₖ the difference of an update to the model that client k started from, nₖ its scaling
    factor and τₖ the commits since that model, a commit makes x + η · Σ nₖ·s(τₖ)·Δₖ / Σ nₖ. With the scaling factor
    NumParticipants that is Algorithm 1 of FedBuff, whose sum is divided by K. With the rule fedrec a commit is the mean
    of each client's latest model, and K counts the new ones.
    """

    name = "asynchronous"
    required: frozenset[str] = frozenset()
    uses_past = False
    carries_over = True

    class Options(OptionValues):
        arrivals: int = Field(default=1, ge=1)
        """K: updates, counted over the federation, after which the model is committed; 1: after each (fully
        asynchronous). Where fewer clients are there, as many as can arrive, but at least `clients_required`."""
        staleness: Staleness = Polynomial()
        """What an update is multiplied by that started from a model τ commits ago, s(τ): `{name: constant}`, `{name:
        polynomial, a: 0.5}` or `{name: hinge, a: 10, b: 4}`."""
        max_staleness: int = Field(default=10, ge=0, le=1000)
        """An update that would be older than so many commits does not count; its client gets the latest model."""
        concurrency: int | None = Field(default=None, ge=1)
        """Clients that work at the same time over the federation, at the most; none: all of them."""
        learning_rate: float = Field(default=1.0, gt=0, le=1e6)
        """The server's, η. Where the plan has a server_optimizer, that one has it."""

    def __init__(self, **options: Any) -> None:
        self._options = read_values("scheduler", self.name, self.Options, options)

    @property
    def max_staleness(self) -> int:
        return self._options.max_staleness

    @property
    def concurrency(self) -> int | None:
        return self._options.concurrency

    def share(self, staleness: int) -> float:
        return self._options.learning_rate * self._options.staleness.weight(staleness)

    def discount(self, staleness: int) -> float:
        return self._options.staleness.weight(staleness)

    def faults(self, plan: SessionPlan, rule: Any) -> Iterator[FednError]:
        if plan.deterministic:
            yield _fault("deterministic", "updates count in the order in which they come", "Leave it out.")
        if plan.reducer_mean == "plain":
            yield _fault("reducer_mean", "a combiner's sums have no fixed share in a model", "Leave it at weighted.")
        if plan.clients_requested is not None:
            yield _fault("clients_requested", "there are no cohorts", "Limit how many work at once: concurrency.")
        if plan.clients_required > self._options.arrivals:
            yield _fault(
                "clients_required",
                f"{self._options.arrivals} updates make a commit, and {plan.clients_required} are required",
                "Raise its option arrivals, or lower clients_required.",
            )
        if plan.selection.options.keys() & {"count", "fraction"}:
            yield _fault("selection", "there are no cohorts of a size", "Limit how many work at once: concurrency.")
        if rule is not None:
            yield from self._rule_faults(rule)
        if plan.combiner_optimizer is not None:
            yield _fault(
                "combiner_optimizer",
                "combiners hand up sums of several base models, and have no mean to step towards",
                "Use server_optimizer instead.",
            )
        if plan.server_optimizer is not None and self._options.learning_rate != 1.0:
            yield _fault("server_optimizer", "there would be two learning rates", "Leave its option learning_rate out.")

    def _rule_faults(self, rule: Any) -> Iterator[FednError]:
        hands_up = getattr(rule, "hands_up", None)
        if hands_up is None:
            yield _fault(
                "rule",
                f"the rule {rule.name} makes nothing of updates that started from different models",
                "Choose fedavg, fedstride, norm_clipping or fedrec.",
            )
        if hands_up is HandsUp.MEAN:
            for name in sorted(self._options.model_fields_set & {"staleness", "learning_rate"}):
                yield _fault(
                    f"scheduler.options.{name}",
                    f"a commit of the rule {rule.name} is the mean of each client's latest model, and takes no step",
                    f"Leave {name} out: a client's next update replaces its old one.",
                )

    def budgets(
        self, cohort: Sequence[str], history: Mapping[str, UpdateMetadata], kept: StepBudgets | None
    ) -> StepBudgets | None:
        """Every learner decides its steps."""
        return None

    def verdict(self, progress: Progress) -> Verdict:
        """Commits with K updates; with fewer where nothing more can come, if they reach the quorum."""
        if progress.updated >= self._options.arrivals:
            return Verdict.COMMIT
        if progress.open:
            return Verdict.WAIT
        return Verdict.COMMIT if progress.updated >= max(1, progress.required) else Verdict.RETRY


def _fault(field: str, why: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_plan", f"with the scheduler asynchronous, {why}", fix=fix, where={"field": field})
