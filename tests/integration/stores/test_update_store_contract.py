"""What the update store promises, on each shelf."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn.protocol.errors import InvalidInput, LimitExceeded, NotFound
from fedn.stores.updates.base import UpdateStoreStatistics
from fedn.stores.updates.eviction import LineageLength, NoEviction
from fedn.stores.updates.store import UpdateStore
from tests.integration.stores.update_stores import OpenShelf, data, facts, shelf_opener, store_on


@pytest.fixture(params=["memory", "files", "redis"])
def open_shelf(request: pytest.FixtureRequest, tmp_path: Path) -> OpenShelf:
    return shelf_opener(request.param, tmp_path, lambda: request.getfixturevalue("redis_url"))


@pytest.fixture
def store(open_shelf: OpenShelf) -> Iterator[UpdateStore]:
    opened = store_on(open_shelf())
    yield opened
    opened.expunge()
    opened.close()


def rounds(store: UpdateStore, client: str, count: int | None = None, session: str = "s") -> list[int]:
    return [update.round_index for update in store.select(session, {client: count})[client]]


def test_an_update_comes_back_as_it_was_with_all_that_is_known_of_it(store: UpdateStore) -> None:
    given = facts("Bjørn's *laptop*", 3, weight=0.1)
    kept = store.insert(given, data(1))
    (found,) = store.select("s", {given.client: None})[given.client]
    assert found == kept
    assert found.model_dump(include=set(type(given).model_fields)) == given.model_dump()
    assert (found.size_bytes, found.kept_at) == (4321, 1000.0)
    assert store.read(found).copy() == data(1).copy()


def test_the_latest_updates_are_selected_old_to_new_down_to_what_is_there(store: UpdateStore) -> None:
    for index in range(2):
        store.insert(facts("a", index), data(index))
    assert rounds(store, "a") == rounds(store, "a", 2) == rounds(store, "a", 9) == [0, 1]
    assert rounds(store, "a", 1) == [1]
    assert rounds(store, "nobody", 4) == []
    assert rounds(store, "a", session="other") == []
    with pytest.raises(InvalidInput, match="Less than 1"):
        store.select("s", {"a": 0})


def test_beyond_its_lineage_length_a_clients_oldest_updates_go_and_no_others(store: UpdateStore) -> None:
    for index in range(5):
        store.insert(facts("a", index), data(index))
        store.insert(facts("a", index, session="t"), data(index + 10))
    store.insert(facts("b", 0), data(20))
    assert rounds(store, "a") == rounds(store, "a", session="t") == [3, 4]
    assert rounds(store, "b") == [0]
    assert store.statistics == UpdateStoreStatistics(5, 5 * 4321)
    assert [store.read(kept).copy() for kept in store.select("s", {"a": None})["a"]] == [data(3).copy(), data(4).copy()]


def test_what_was_read_stays_good_when_it_goes(store: UpdateStore) -> None:
    first = store.insert(facts("a", 0), data(0))
    before = store.read(first)
    for index in range(1, 4):
        store.insert(facts("a", index), data(index))
    assert before.copy() == data(0).copy()
    with pytest.raises(NotFound):
        store.read(first)


def test_without_eviction_all_stay_up_to_the_bytes_that_are_allowed(open_shelf: OpenShelf) -> None:
    store = store_on(open_shelf(), NoEviction(), max_bytes=3 * 4321)
    for index in range(3):
        store.insert(facts("a", index), data(index))
    with pytest.raises(LimitExceeded, match="max_bytes") as caught:
        store.insert(facts("a", 3), data(3))
    assert caught.value.code == "update_store_full"
    assert rounds(store, "a") == [0, 1, 2]
    store.erase("s", ["a"])
    store.insert(facts("a", 3), data(3))
    assert rounds(store, "a") == [3]
    store.expunge()


def test_a_full_store_still_takes_what_replaces_an_update(open_shelf: OpenShelf) -> None:
    store = store_on(open_shelf(), LineageLength(1), max_bytes=2 * 4321)
    store.insert(facts("a"), data(0))
    store.insert(facts("b"), data(1))
    store.insert(facts("a", 1), data(2))
    with pytest.raises(LimitExceeded):
        store.insert(facts("c"), data(3))
    assert store.clients("s") == ["a", "b"] and rounds(store, "a") == [1]
    store.expunge()


def test_erase_reset_and_expunge_forget_what_they_say(store: UpdateStore) -> None:
    for session in ("s", "t"):
        for client in ("a", "b", "c"):
            store.insert(facts(client, session=session), data(1))
    store.erase("s", ["a", "nobody"])
    assert (store.clients("s"), store.clients("t")) == (["b", "c"], ["a", "b", "c"])
    store.reset("t")
    assert store.sessions() == ["s"]
    store.expunge()
    assert store.sessions() == [] and store.statistics == UpdateStoreStatistics(0, 0)


def test_opened_again_it_has_what_was_there(open_shelf: OpenShelf) -> None:
    first = store_on(open_shelf())
    for index in range(3):
        first.insert(facts("a", index), data(index))
    again = store_on(open_shelf())
    assert rounds(again, "a") == [1, 2]
    assert again.statistics == first.statistics
    newest = again.insert(facts("a", 3), data(3))
    assert newest.number > max(update.number for update in first.select("s", {"a": None})["a"])
    assert rounds(again, "a") == [2, 3]
    again.expunge()


@pytest.mark.parametrize("size", [0, 1, 1000, 1001])
def test_updates_of_any_size_come_back(store: UpdateStore, size: int) -> None:
    kept = store.insert(facts("a"), data(5, size))
    assert store.read(kept).copy() == data(5, size).copy()


def test_what_the_shelf_lost_is_told_and_forgotten(open_shelf: OpenShelf) -> None:
    shelf = open_shelf()
    store = store_on(shelf)
    first, second = store.insert(facts("a", 0), data(0)), store.insert(facts("a", 1), data(1))
    shelf.remove([first])
    with pytest.raises(NotFound) as caught:
        store.read(first)
    assert caught.value.code == "kept_update_lost" and caught.value.where["client"] == "a"
    assert store.select("s", {"a": None})["a"] == [second]
    assert store.statistics.entries == 1
    store.expunge()


def test_other_bytes_in_the_place_of_an_update_are_never_handed_out(open_shelf: OpenShelf) -> None:
    shelf = open_shelf()
    store = store_on(shelf)
    kept = store.insert(facts("a"), data(0))
    shelf.write(kept, data(99))
    with pytest.raises(NotFound, match="other bytes"):
        store.read(kept)
    assert rounds(store, "a") == []
    assert store.statistics.entries == 0
    store.expunge()
