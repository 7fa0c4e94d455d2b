import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fedn.protocol.errors import StoreUnavailable, Unavailable
from fedn.reducer.events import EventLog
from fedn.stores.sqlite import SqliteStateStore


class Away:
    """A state store whose event log is away until it is let in."""

    def __init__(self, store: SqliteStateStore) -> None:
        self._store = store
        self.back = threading.Event()
        self.asked = threading.Event()

    def append_events(self, events: list[dict[str, Any]]) -> list[int]:
        self.asked.set()
        if not self.back.is_set():
            raise StoreUnavailable("store_unavailable", "the store is away")
        return self._store.append_events(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def make_log(state: SqliteStateStore) -> Iterator[Callable[..., EventLog]]:
    made: list[EventLog] = []

    def make(store: Any = state, **options: Any) -> EventLog:
        log = EventLog(store, clock=time.time, **options)
        log.start()
        made.append(log)
        return log

    yield make
    for log in made:
        log.stop()


def test_events_come_in_order_and_from_where_one_was(make_log: Callable[..., EventLog]) -> None:
    log = make_log()
    numbers = [log.publish("round_started", round=index) for index in range(5)]
    assert [event.fields["round"] for event in log.after(numbers[1], 2)] == [2, 3]
    assert [event.number for event in log.latest(2)] == numbers[-2:]


def test_a_field_may_be_called_kind_or_self(make_log: Callable[..., EventLog]) -> None:
    log = make_log()
    log.publish("round_started", kind="train", number=3)
    assert log.latest(1)[0].fields == {"kind": "train", "number": 3}


def test_a_watcher_is_woken_by_the_next_event(make_log: Callable[..., EventLog]) -> None:
    log = make_log()
    with log.subscribe() as watcher:
        threading.Timer(0.05, log.publish, ["model_seeded"]).start()
        found = watcher.next(60)
    assert found is not None and [event.kind for event in found] == ["model_seeded"]


def test_a_watcher_goes_on_behind_the_number_that_it_names(make_log: Callable[..., EventLog]) -> None:
    log = make_log()
    first = log.publish("a")
    log.publish("b")
    with log.subscribe(first) as watcher:
        found = watcher.next(0)
        assert found is not None and [event.kind for event in found] == ["b"]
        assert watcher.next(0) == []


def test_stopping_ends_every_watcher(make_log: Callable[..., EventLog]) -> None:
    log = make_log()
    with log.subscribe() as watcher:
        threading.Timer(0.05, log.end_subscriptions).start()
        assert watcher.next(60) is None


def test_watchers_are_bounded_and_make_room_when_they_go(make_log: Callable[..., EventLog]) -> None:
    log = make_log(max_subscriptions=1)
    with log.subscribe() as only, pytest.raises(Unavailable, match="too_many_streams"):
        log.subscribe()
    only.close()
    log.subscribe().close()
    assert log.subscriptions == 0


def test_a_slow_watcher_costs_no_more_than_the_log_itself(make_log: Callable[..., EventLog]) -> None:
    log = make_log(kept=3)
    with log.subscribe() as watcher:
        for index in range(10):
            log.publish("tick", index=index)
        found = watcher.next(0)
    assert found is not None and [event.fields["index"] for event in found] == [7, 8, 9]


def test_events_survive_a_restart_and_numbers_go_on(state: SqliteStateStore) -> None:
    first = EventLog(state, clock=time.time)
    first.start()
    number = first.publish("session_started", session="s1", loss=float("nan"))
    first.stop()
    second = EventLog(state, clock=lambda: 0.0)  # even where the clock went back
    second.start()
    try:
        assert second.latest(10)[0].fields == {"session": "s1", "loss": "NaN"}
        assert second.publish("session_finished") > number
    finally:
        second.stop()


def test_publishing_does_not_wait_for_a_store_that_is_away(
    make_log: Callable[..., EventLog], state: SqliteStateStore
) -> None:
    away = Away(state)
    log = make_log(away)
    with log.subscribe() as watcher:
        log.publish("store_unavailable")
        assert away.asked.wait(60)
        found = watcher.next(60)
        assert found is not None and found[0].kind == "store_unavailable"
    assert state.events() == []
    away.back.set()
    log.stop()
    assert [document["kind"] for _, document in state.events()] == ["store_unavailable"]


def test_events_that_come_together_are_written_together_in_order(
    make_log: Callable[..., EventLog], state: SqliteStateStore
) -> None:
    batches: list[int] = []

    class Counting(Away):
        def append_events(self, events: list[dict[str, Any]]) -> list[int]:
            batches.append(len(events))
            return super().append_events(events)

    store = Counting(state)
    store.back.set()
    log = make_log(store)
    for index in range(1200):
        log.publish("tick", index=index)
    log.stop()
    assert [document["fields"]["index"] for _, document in state.events(limit=2000)] == list(range(1200))
    assert len(batches) < 20


def test_an_event_that_no_store_can_keep_is_left_out_and_the_others_are_written(
    make_log: Callable[..., EventLog], state: SqliteStateStore
) -> None:
    log = make_log()
    for index in range(5):
        log.publish("tick", index=index if index != 2 else 2**63)
    log.stop()
    assert [document["fields"]["index"] for _, document in state.events()] == [0, 1, 3, 4]
