"""A round over time, and the marks that it is made of."""

import pytest

from fedn.protocol.rest import EventView, RoundView
from fedn.protocol.rounds import LedgerEntry, LedgerState, RoundKind, RoundState
from fedn.protocol.tasks import RoundName, UpdateMetadata
from fedn.reducer.pages.timeline import CHART_WIDTH, MAX_ROWS, bars, parts_of, timeline
from fedn.reducer.watching.marks import Marks, RoundMarks

TIMES = {"waiting": 100.0, "training": 600.0, "collecting": 100.0, "aggregation": 50.0, "commit": 50.0, "total": 1000.0}


def view(*entries: LedgerEntry, ended: float | None = 11.0, attempt: int = 0) -> RoundView:
    return RoundView(
        session="s",
        index=0,
        attempt=attempt,
        epoch=1,
        kind=RoundKind.TRAIN,
        state=RoundState.COMMITTED,
        ledger=entries,
        times_ms=TIMES,
        started_at=10.0,
        ended_at=ended,
    )


def marks(**clients: list[tuple[str, float]]) -> Marks:
    return Marks(0, 10.1, dict(clients))


def test_a_round_is_the_sum_of_its_parts() -> None:
    told = [
        LedgerEntry(client=client, task_id=client, state=LedgerState.UPDATED, sent_at=at)
        for client, at in {"one": 10.2, "two": 10.3}.items()
    ]
    parts = parts_of(view(*told))
    assert parts == pytest.approx(
        {
            "waiting": 0.1,
            "dispatch": 0.2,
            "training": 0.4,
            "collecting": 0.1,
            "aggregation": 0.05,
            "commit": 0.05,
            "other": 0.1,
        }
    )
    assert sum(parts.values()) == pytest.approx(TIMES["total"] / 1e3)
    assert "dispatch" not in parts_of(view())
    drawn = bars(parts, 100, 1.0)
    assert [bar.part for bar in drawn] == list(parts)
    assert drawn[-1].x + drawn[-1].width == pytest.approx(100, abs=0.1)


def test_each_clients_states_follow_one_another() -> None:
    done = LedgerEntry(client="one", state=LedgerState.UPDATED)
    found = timeline(view(done), marks(one=[("training", 10.3), ("uploading", 10.6), ("updated", 10.8)]), now=50.0)
    assert found is not None and found.total_s == 1.0
    (row,) = found.rows
    assert [(bar.part, bar.x, bar.width) for bar in row.bars] == [
        ("selected", CHART_WIDTH * 0.1, CHART_WIDTH * 0.2),
        ("training", CHART_WIDTH * 0.3, CHART_WIDTH * 0.3),
        ("uploading", CHART_WIDTH * 0.6, CHART_WIDTH * 0.2),
    ]


def test_without_marks_what_the_client_said_of_its_work_has_to_do() -> None:
    said = UpdateMetadata(
        task_id="t", client="one", round=RoundName(session="s", index=0, attempt=0, epoch=1), task_ms=400
    )
    done = LedgerEntry(client="one", state=LedgerState.UPDATED, metadata=said, updated_at=10.9)
    for known in (None, Marks(3, 10.0, {"one": [("training", 10.0)]})):  # the latter are of another attempt
        found = timeline(view(done), known, now=50.0)
        assert found is not None
        assert [(bar.part, bar.seconds) for bar in found.rows[0].bars] == [("training", pytest.approx(0.4))]


def test_a_running_round_ends_now_and_nothing_leaves_the_chart() -> None:
    works = LedgerEntry(client="one", state=LedgerState.TRAINING)
    found = timeline(view(works, ended=None), marks(one=[("training", 9.0), ("training", 99.0)]), now=12.0)
    assert found is not None and found.total_s == 2.0
    for bar in found.rows[0].bars:
        assert 0 <= bar.x <= bar.x + bar.width <= CHART_WIDTH
    assert all(0 <= tick.x <= CHART_WIDTH for tick in found.ticks) and 3 <= len(found.ticks) <= 11


@pytest.mark.parametrize("total_s", [1e-4, 0.2, 1.0, 59.0, 7200.0, 1e6])
def test_there_are_a_few_ticks_whatever_a_round_takes(total_s: float) -> None:
    found = timeline(view(LedgerEntry(client="a", state=LedgerState.LATE), ended=10.0 + total_s), None, now=0.0)
    assert found is not None and 3 <= len(found.ticks) <= 11 and found.ticks[0].seconds == 0


def test_who_was_not_asked_has_no_row_and_many_clients_are_counted() -> None:
    idle = LedgerEntry(client="idle", state=LedgerState.NOT_SELECTED)
    assert timeline(view(idle), None, now=1.0) is None
    many = [LedgerEntry(client=f"c{number:03}", state=LedgerState.UPDATED) for number in range(MAX_ROWS + 5)]
    found = timeline(view(idle, *many), None, now=1.0)
    assert found is not None and (len(found.rows), found.left_out) == (MAX_ROWS, 5)


def event(kind: str, at: float, **fields: object) -> EventView:
    return EventView(number=1, kind=kind, time=at, fields={"session": "s", "round": 0, **fields})


def test_marks_are_taken_from_events_and_a_new_attempt_begins_anew() -> None:
    kept = RoundMarks()
    kept.note_event(event("ledger_changed", 0.5, client="one", state="training"))  # its round began before us
    assert kept.of("s", 0) is None
    kept.note_event(event("round_started", 1.0, attempt=0))
    kept.note_event(event("ledger_changed", 2.0, client="one", state="training"))
    assert kept.of("s", 0) == Marks(0, 1.0, {"one": [("training", 2.0)]})
    kept.note_event(event("round_started", 3.0, attempt=1))
    assert kept.of("s", 0) == Marks(1, 3.0, {})
    for number in range(1, 70):
        kept.note_event(EventView(number=1, kind="round_started", time=1.0, fields={"session": "s", "round": number}))
    assert kept.of("s", 0) is None and kept.of("s", 69) is not None
