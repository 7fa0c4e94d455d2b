"""How far a session is: built from the API's lists and kept up to date by its events. Shows nothing itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fedn.api.client import APIClient
from fedn.protocol.rest import EventView, SessionView
from fedn.protocol.rounds import RoundKind, RoundState
from fedn.protocol.tasks import mean_by_examples
from fedn.protocol.trail import ValidationRecord

RUNNING = "running"


@dataclass
class RoundLine:
    """One committed round."""

    index: int
    model_id: str
    updates: int
    """Clients whose update is in the model."""
    training: dict[str, float]
    total_ms: float
    validation: dict[str, float] = field(default_factory=dict)
    """Mean over the clients by examples; empty until they have validated the model."""
    validations: int = 0
    """Clients that validated it."""


class SessionProgress:
    """State of one session. Events may be applied twice, and in any number of pieces."""

    def __init__(self, session: str, *, rounds: int) -> None:
        self.session = session
        self.rounds = rounds
        """Rounds asked for."""
        self.state = RUNNING
        self.reason = ""
        """Why it ended."""
        self.validated = True
        """Whether its plan lets clients validate the models."""
        self.lines: dict[int, RoundLine] = {}
        self.activity = "waiting for clients"
        """What it does right now, in words."""
        self.notes: list[str] = []
        """What went wrong on the way, newest last."""
        self._validations: dict[str, tuple[dict[str, float], int]] = {}

    @property
    def done(self) -> bool:
        return self.state != RUNNING

    @property
    def rounds_done(self) -> int:
        return len(self.lines)

    def start_from(self, api: APIClient) -> None:
        """Takes over what the API's lists say."""
        self.adopt(api.session(self.session))
        for view in api.rounds(self.session):
            if view.kind is RoundKind.TRAIN and view.state is RoundState.COMMITTED:
                updates = sum(len(model.contributions) for model in view.combiner_models)
                self._commit(view.index, view.model_id, updates, view.metrics, view.times_ms.get("total", 0.0))
        by_model: dict[str, list[ValidationRecord]] = {}
        for record in api.validations(self.session):
            by_model.setdefault(record.model_id, []).append(record)
        for model_id, records in by_model.items():
            means = mean_by_examples((record.num_examples, record.metrics) for record in records)
            self._validate(model_id, means, len(records))

    def adopt(self, view: SessionView) -> None:
        """Takes over a session's state."""
        self.state, self.rounds = view.state, view.rounds
        self.validated = bool(view.plan.get("validate", True))
        why = view.error or view.ended_because
        self.reason = why.message if why else self.reason

    def apply(self, event: EventView) -> bool:
        """Takes an event in; whether it was about this session."""
        fields = event.fields
        if fields.get("session") != self.session:
            return False
        match event.kind:
            case "round_started":
                self.activity = _what(fields)
            case "round_committed":
                index, metrics = int(fields["round"]), dict(fields.get("metrics", {}))
                self._commit(index, fields["model_id"], fields.get("updates", 0), metrics, fields.get("total_ms", 0.0))
            case "validation_added":
                self._validate(fields["model_id"], dict(fields.get("metrics", {})), fields.get("clients", 0))
            case "ledger_changed" if fields.get("state") in {"failed", "refused", "late", "disconnected"}:
                reason = f": {fields['reason']}" if fields.get("reason") else ""
                self.notes.append(f"{self._place(fields)}: {fields['client']} {fields['state']}{reason}")
            case "round_failed":
                self.notes.append(f"{self._place(fields)} failed: {fields.get('reason', '')}")
            case "session_finished" | "session_failed" | "session_stopped":
                self.state, self.reason = event.kind.removeprefix("session_"), str(fields.get("reason", ""))
            case "session_started":
                self.state = RUNNING
            case _:
                pass
        return True

    def _place(self, fields: dict[str, Any]) -> str:
        """In words: the indexes behind those that train validate the last model, and make the first one."""
        index = int(fields["round"])
        if index < self.rounds:
            return f"round {index + 1}"
        return "the last validation" if index == self.rounds else "the first model"

    def _commit(self, index: int, model_id: str, updates: int, metrics: dict[str, float], total_ms: float) -> None:
        line = RoundLine(index, model_id, updates, metrics, total_ms)
        line.validation, line.validations = self._validations.get(model_id, ({}, 0))
        self.lines[index] = line

    def _validate(self, model_id: str, metrics: dict[str, float], clients: int) -> None:
        self._validations[model_id] = metrics, clients
        for line in self.lines.values():
            if line.model_id == model_id:
                line.validation, line.validations = metrics, clients


def follow_session(api: APIClient, session: str, *, patience_s: float = 60.0) -> Iterator[SessionProgress]:
    """The progress of a session, again after each of its events, until it has ended.

    A reducer that is away for less than `patience_s` seconds is waited for.
    """
    progress = SessionProgress(session, rounds=0)
    progress.start_from(api)
    yield progress
    if progress.done:
        return
    for event in api.watch(patience_s=patience_s):
        if progress.apply(event):
            if progress.done:
                # An old end of a resumed session is in the event log too: what the session itself says counts.
                progress.start_from(api)
            yield progress
            if progress.done:
                return


def _what(fields: dict[str, Any]) -> str:
    kind = str(fields.get("round_kind", "train"))
    attempt = int(fields.get("attempt", 0))
    again = f", attempt {attempt + 1}" if attempt else ""
    clients = fields.get("clients", 0)
    if kind == "train":
        return f"round {int(fields['round']) + 1}: {clients} clients train{again}"
    return {"validate": f"{clients} clients validate the last model", "init": "a client makes the first model"}.get(
        kind, f"{clients} clients: {kind}"
    )
