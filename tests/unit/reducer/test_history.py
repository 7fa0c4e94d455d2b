"""A session's rounds for pages that are drawn again and again: what is committed is read once."""

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import RoundKind, RoundState
from fedn.protocol.trail import ValidationRecord
from fedn.reducer.watching.history import MAX_ROUNDS
from tests.unit.reducer.parts import Parts


def view(index: int, state: RoundState = RoundState.COMMITTED, kind: RoundKind = RoundKind.TRAIN) -> RoundView:
    return RoundView(session="s-0", index=index, attempt=0, epoch=1, kind=kind, state=state, started_at=float(index))


def test_rounds_come_in_order_and_the_running_one_as_it_is_now(parts: Parts) -> None:
    sessions, history = parts.sessions, parts.services.watching.history
    session = sessions.start(SessionPlan()).id
    assert history.rounds(session) == []
    sessions.views_of_rounds = [view(0), view(1, RoundState.RUNNING)]
    assert [found.state for found in history.rounds(session)] == ["committed", "running"]
    sessions.views_of_rounds = [view(0), view(1, RoundState.FAILED)]
    assert history.rounds(session)[1].state == "failed"
    sessions.views_of_rounds = [view(0), view(1, RoundState.RUNNING)]  # tried again
    assert history.rounds(session)[1].state == "running"
    sessions.views_of_rounds = [view(0), view(1), view(2, RoundState.WAITING)]
    assert [found.state for found in history.rounds(session)] == ["committed", "committed", "waiting"]


def test_only_the_latest_rounds_are_kept(parts: Parts) -> None:
    sessions, history = parts.sessions, parts.services.watching.history
    session = sessions.start(SessionPlan()).id
    for count in (MAX_ROUNDS + 50, MAX_ROUNDS + 51, 3 * MAX_ROUNDS):
        sessions.views_of_rounds = [view(index) for index in range(count)]
        found = history.rounds(session)
        assert [round_.index for round_ in found] == list(range(count - MAX_ROUNDS, count))


def test_what_was_committed_is_not_read_again(parts: Parts, monkeypatch) -> None:
    sessions, history = parts.sessions, parts.services.watching.history
    session = sessions.start(SessionPlan()).id
    sessions.views_of_rounds = [view(index) for index in range(100)]
    history.rounds(session)
    read: list[int] = []
    real = sessions.rounds
    monkeypatch.setattr(sessions, "rounds", lambda *given: read.append(len(real(*given))) or real(*given))
    history.rounds(session)
    sessions.views_of_rounds.append(view(100))
    assert len(history.rounds(session)) == 101
    assert sum(read) <= 4


def test_validations_are_added_to_what_is_known(parts: Parts) -> None:
    history, trail = parts.services.watching.history, parts.services.trail
    session = parts.sessions.start(SessionPlan()).id

    def add(client: str, at: float) -> None:
        record = ValidationRecord(
            federation="f", entry_hash="h", model_id="m", session=session, client=client, metrics={"a": 1.0}, time=at
        )
        trail.add_validations([record])

    assert history.validations(session) == []
    add("one", 1.0)
    assert [record.client for record in history.validations(session)] == ["one"]
    add("two", 2.0)
    assert [record.client for record in history.validations(session)] == ["one", "two"]
