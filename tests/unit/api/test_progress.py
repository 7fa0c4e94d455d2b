"""The progress of a session, from events."""

from typing import Any

from fedn.api.progress import SessionProgress
from fedn.protocol.rest import EventView


def event(kind: str, **fields: Any) -> EventView:
    return EventView(number=1, kind=kind, time=0.0, fields=fields)


def committed(round_index: int, model_id: str) -> EventView:
    fields = {"session": "s", "round": round_index, "model_id": model_id, "metrics": {"train_loss": 0.5}}
    return event("round_committed", **fields, updates=5, total_ms=120.0)


def test_a_rounds_validation_finds_it_by_its_model() -> None:
    progress = SessionProgress("s", rounds=2)
    progress.apply(committed(0, "m0"))
    progress.apply(committed(1, "m1"))
    progress.apply(event("validation_added", session="s", model_id="m0", clients=5, metrics={"accuracy": 0.9}))
    assert progress.lines[0].validation == {"accuracy": 0.9}
    assert progress.lines[1].validation == {}
    assert progress.rounds_done == 2


def test_an_event_may_come_twice_and_a_validation_before_its_round() -> None:
    progress = SessionProgress("s", rounds=1)
    validation = event("validation_added", session="s", model_id="m0", clients=3, metrics={"accuracy": 0.7})
    for happened in (validation, committed(0, "m0"), committed(0, "m0"), validation):
        progress.apply(happened)
    assert len(progress.lines) == 1
    assert progress.lines[0].validations == 3


def test_events_of_other_sessions_are_left_alone() -> None:
    progress = SessionProgress("s", rounds=1)
    assert not progress.apply(event("session_failed", session="other", reason="no"))
    assert not progress.done


def test_a_failed_session_says_why() -> None:
    progress = SessionProgress("s", rounds=3)
    progress.apply(event("session_failed", session="s", reason="no clients"))
    assert (progress.state, progress.reason, progress.done) == ("failed", "no clients", True)


def test_a_client_that_failed_is_noted_with_the_reason() -> None:
    progress = SessionProgress("s", rounds=3)
    fields = {"session": "s", "round": 1, "client": "client-3", "state": "failed", "reason": "ValueError: x"}
    progress.apply(event("ledger_changed", **fields))
    assert progress.notes == ["round 2: client-3 failed: ValueError: x"]
