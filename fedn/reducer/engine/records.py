"""What the engine remembers of sessions and rounds, as documents of the state store.

A round's record is durable before its combiners are told to start, so that a reducer that comes back finds them.
"""

from enum import StrEnum
from typing import Any

from pydantic import Field

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import as_json
from fedn.protocol.rounds import CombinerModel, LedgerEntry, Reason, RoundKind, RoundState
from fedn.protocol.tasks import Frozen, RoundName, TaskSpec
from fedn.stores.base import StateStore

SESSIONS = "sessions"
ROUNDS = "rounds"


class SessionState(StrEnum):
    """running -> finished, failed or stopped; a failed or stopped session can be resumed."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class SessionRecord(Frozen):
    id: str
    name: str
    kind: RoundKind = RoundKind.TRAIN
    """What its rounds do: `train`, or `predict` and `validate` for a session of one such round."""
    state: SessionState
    plan: SessionPlan
    rounds_done: int = 0
    model_id: str = ""
    """The latest global model of the session."""
    error: Reason | None = None
    created_at: float
    ended_at: float | None = None

    def document(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


class RoundRecord(Frozen):
    """One round with its latest attempt."""

    name: RoundName
    kind: RoundKind = RoundKind.TRAIN
    state: RoundState
    base_model_id: str = ""
    cohort: tuple[str, ...] = ()
    assignments: dict[str, tuple[TaskSpec, ...]] = Field(default_factory=dict)
    """Combiner name to the tasks that it executes."""
    instances: dict[str, str] = Field(default_factory=dict)
    """Combiner name to the instance of its process that was told to start."""
    deadline_at: float = 0.0
    ledger: tuple[LedgerEntry, ...] = ()
    combiner_models: tuple[CombinerModel, ...] = ()
    model_id: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    times_ms: dict[str, float] = Field(default_factory=dict)
    """Wall time of the round's parts: waiting, training, collecting, aggregation, commit, total."""
    error: Reason | None = None
    started_at: float
    ended_at: float | None = None

    @property
    def key(self) -> str:
        return round_key(self.name.session, self.name.index)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = as_json(self)  # a metric may be NaN, which no store takes as a number
        document["session"], document["index"] = self.name.session, self.name.index
        return document


def round_key(session: str, index: int) -> str:
    """Keys sort as the rounds do."""
    return f"{session}/{index:08d}"


def read_session(document: dict[str, Any]) -> SessionRecord:
    return SessionRecord.model_validate(document)


def read_round(document: dict[str, Any]) -> RoundRecord:
    return RoundRecord.model_validate({k: v for k, v in document.items() if k not in {"session", "index"}})


def load_round(state: StateStore, session: str, index: int) -> RoundRecord | None:
    document = state.get(ROUNDS, round_key(session, index))
    return read_round(document) if document else None
