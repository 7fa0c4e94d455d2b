"""Sessions, their rounds, and what clients predicted."""

from typing import Any, Literal

from pydantic import Field

from fedn.protocol.rest.base import Page
from fedn.protocol.rounds import CombinerModel, LedgerEntry, Reason, RoundKind, RoundState, StepBudgets, Usage
from fedn.protocol.tasks import Frozen, Metrics


class SessionStart(Frozen):
    """POST sessions."""

    name: str | None = None
    kind: Literal["train", "validate", "predict"] = "train"
    """`validate` and `predict`: a session of one such round, about the plan's model or the head."""
    plan: dict[str, Any] = Field(default_factory=dict)
    """A `fedn.plan.session.SessionPlan`; missing fields have its defaults."""


class SessionView(Frozen):
    id: str
    name: str
    kind: RoundKind = RoundKind.TRAIN
    state: Literal["running", "finished", "failed", "stopped"]
    plan: dict[str, Any]
    rounds_done: int
    rounds: int
    """Rounds asked for."""
    error: Reason | None = None
    ended_because: Reason | None = None
    """Why it has finished: `all_rounds_done`, `duration_reached` or `metric_reached`."""
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    model_id: str = ""
    """Its latest global model."""
    links: dict[str, str] = Field(default_factory=dict)


class RoundView(Frozen):
    session: str
    index: int
    attempt: int
    epoch: int
    kind: RoundKind
    state: RoundState
    base_model_id: str = ""
    model_id: str = ""
    cohort: tuple[str, ...] = ()
    step_budgets: StepBudgets | None = None
    """What the clients' step budgets were made of, where the scheduler gave some."""
    validators: tuple[str, ...] = ()
    """Clients of a training round that were asked only to validate the model that it starts from."""
    ledger: tuple[LedgerEntry, ...] = ()
    """Of the latest attempt."""
    spent: dict[str, Usage] = Field(default_factory=dict)
    """What clients spent on the attempts before it."""
    combiner_models: tuple[CombinerModel, ...] = ()
    metrics: Metrics = Field(default_factory=dict)
    times_ms: dict[str, float] = Field(default_factory=dict)
    """waiting, training, collecting, aggregation, commit, total: as far as measured."""
    error: Reason | None = None
    started_at: float
    ended_at: float | None = None


class PredictionView(Frozen):
    """What one client predicted, in a session of kind `predict`."""

    session: str
    client: str
    object_id: str
    """Digest of the tensors (safetensors) that it predicted."""
    size_bytes: int
    metrics: Metrics = Field(default_factory=dict)


SessionPage = Page[SessionView]
RoundPage = Page[RoundView]
PredictionPage = Page[PredictionView]
