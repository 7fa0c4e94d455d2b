import threading
import time
from collections.abc import Iterator

import pytest

from fedn.protocol.errors import Conflict, InvalidInput, NotFound
from fedn.protocol.rest import CombinerHeartbeat, CombinerRegistration
from fedn.reducer.events import EventLog
from fedn.reducer.registry import Registry
from fedn.stores.sqlite import SqliteStateStore


@pytest.fixture
def events(state: SqliteStateStore) -> Iterator[EventLog]:
    log = EventLog(state, clock=time.time)
    log.start()
    yield log
    log.stop()


def open_registry(state: SqliteStateStore, events: EventLog, dead_after_s: float = 3600.0) -> Registry:
    made = Registry(state, events, dead_after_s=dead_after_s)
    made.start()
    return made


@pytest.fixture
def registry(state: SqliteStateStore, events: EventLog) -> Iterator[Registry]:
    made = open_registry(state, events)
    yield made
    made.stop()


def announce(name: str = "eins", port: int = 1, instance: str = "i1", max_clients: int = 10) -> CombinerRegistration:
    return CombinerRegistration(name=name, host="h", port=port, max_clients=max_clients, instance=instance)


def test_a_combiner_that_registers_is_alive_and_told(registry: Registry, events: EventLog) -> None:
    changes = threading.Semaphore(0)
    unsubscribe = registry.on_change(changes.release)
    registry.register(announce())
    assert changes.acquire(blocking=False)
    assert [record.alive for record in registry.combiners()] == [True]
    assert [event.kind for event in events.latest(9)] == ["combiner_added"]
    unsubscribe()
    registry.register(announce())
    assert not changes.acquire(blocking=False)


def test_a_silent_combiner_is_dead_and_a_heartbeat_brings_it_back(state: SqliteStateStore, events: EventLog) -> None:
    registry = open_registry(state, events, dead_after_s=0.05)
    try:
        with events.subscribe(0) as watcher:
            registry.register(announce())
            kinds: list[str] = []
            while "combiner_lost" not in kinds:
                kinds += [event.kind for event in watcher.next(60) or ()]
        assert not registry.get("eins").alive
        assert registry.heartbeat("eins", CombinerHeartbeat(instance="i1", attached_clients=3)).alive
        assert registry.get("eins").attached == 3
    finally:
        registry.stop()


def test_an_open_link_keeps_a_combiner_alive(state: SqliteStateStore, events: EventLog) -> None:
    now_s = [0.0]
    registry = Registry(state, events, dead_after_s=10.0, clock=lambda: now_s[0])
    registry.start()
    try:
        registry.register(announce("linked", port=1))
        registry.set_link("linked", True, 4)
        registry.register(announce("silent", port=2))
        now_s[0] = 11.0
        registry.register(announce("newcomer", port=3))  # it looks at all of them when something has changed
        with events.subscribe(0) as watcher:
            lost: set[str] = set()
            while "silent" not in lost:
                lost |= {e.fields["combiner"] for e in watcher.next(60) or () if e.kind == "combiner_lost"}
        assert lost == {"silent"}
        assert registry.get("linked").attached == 4
    finally:
        registry.stop()


def test_a_link_tells_better_than_a_heartbeat_how_many_clients_there_are(registry: Registry) -> None:
    registry.register(announce())
    registry.set_link("eins", True, 4)
    assert registry.heartbeat("eins", CombinerHeartbeat(instance="i1", attached_clients=9)).attached == 4


def test_a_restarted_reducer_knows_its_combiners(state: SqliteStateStore, events: EventLog) -> None:
    first = open_registry(state, events)
    first.register(announce(max_clients=7))
    first.stop()
    second = open_registry(state, events)
    try:
        record = second.get("eins")
        assert (record.host, record.port, record.instance, record.max_clients) == ("h", 1, "i1", 7)
        assert not record.alive
        assert second.heartbeat("eins", CombinerHeartbeat(instance="i1")).alive
    finally:
        second.stop()


def test_a_restarted_combiner_must_register_again(registry: Registry) -> None:
    registry.register(announce(instance="i1"))
    with pytest.raises(NotFound, match="no_such_combiner"):
        registry.heartbeat("eins", CombinerHeartbeat(instance="i2"))
    with pytest.raises(NotFound, match="no_such_combiner"):
        registry.heartbeat("zwei", CombinerHeartbeat(instance="i1"))
    assert registry.register(announce(instance="i2")).instance == "i2"


def test_two_living_combiners_cannot_announce_one_address(registry: Registry) -> None:
    registry.register(announce("eins"))
    with pytest.raises(Conflict, match="address_taken"):
        registry.register(announce("zwei"))


@pytest.mark.parametrize("host", ["unix:/tmp/x", "xds:///a", "dns:///evil", "a b", "x\r\ny", "[::1]", "a/b"])
def test_what_is_no_host_is_not_dialled(registry: Registry, host: str) -> None:
    with pytest.raises(InvalidInput, match="bad_host"):
        registry.register(announce().model_copy(update={"host": host}))
    assert registry.combiners() == []


@pytest.mark.parametrize("host", ["combiner-1", "combiner_1.example.org", "10.0.0.7", "::1"])
def test_names_and_addresses_are_hosts(registry: Registry, host: str) -> None:
    assert registry.register(announce().model_copy(update={"host": host})).host == host


def test_a_removed_combiner_is_forgotten(registry: Registry, state: SqliteStateStore) -> None:
    registry.register(announce())
    registry.remove("eins")
    assert registry.combiners() == []
    assert state.count("combiners") == 0
    with pytest.raises(NotFound, match="no_such_combiner"):
        registry.remove("eins")
    registry.set_link("eins", False, 0)  # the link that breaks after it
    assert registry.combiners() == []


def test_a_link_that_found_the_new_process_before_it_registered_stays_a_link(registry: Registry) -> None:
    registry.register(announce(instance="i1"))
    registry.set_link("eins", up=True, attached=4)
    registry.set_link("eins", up=False, attached=0)  # killed …
    registry.set_link("eins", up=True, attached=2)  # … and found again at the same address
    record = registry.register(announce(instance="i2"))
    assert (record.linked, record.attached, record.instance) == (True, 2, "i2")
    registry.set_link("eins", up=False, attached=0)
    assert not registry.register(announce(instance="i3")).linked
