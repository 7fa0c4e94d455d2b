import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fedn.protocol.errors import InvalidInput, StoreUnavailable, Unavailable
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


def test_what_happens_at_once_is_written_at_once(state: SqliteStateStore, make_log: Callable[..., EventLog]) -> None:
    store = Away(state)
    log = make_log(store)
    log.publish("first")
    assert store.asked.wait(60)
    numbers = [log.publish("burst", n=n) for n in range(1200)]
    batches: list[int] = []
    append = store._store.append_events
    store._store.append_events = lambda events: batches.append(len(events)) or append(events)  # type: ignore[method-assign, func-returns-value]
    store.back.set()
    log.stop()
    assert [document["number"] for _, document in state.events(0, 5000)][1:] == numbers
    assert len(batches) <= 5


def test_an_event_that_no_store_takes_takes_no_other_with_it(state: SqliteStateStore) -> None:
    class Picky(Away):
        def append_events(self, events: list[dict[str, Any]]) -> list[int]:
            if any(event["kind"] == "odd" for event in events):
                raise InvalidInput("bad_document", "it cannot be written")
            return self._store.append_events(events)

    log = EventLog(Picky(state), clock=time.time)  # type: ignore[arg-type]
    log.start()
    for kind in ("a", "odd", "b"):
        log.publish(kind)
    log.stop()
    assert [document["kind"] for _, document in state.events()] == ["a", "b"]
