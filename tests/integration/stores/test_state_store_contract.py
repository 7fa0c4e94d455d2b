"""What every state store promises, asked of each back end."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedn.protocol.errors import Conflict, InvalidInput, LimitExceeded
from fedn.protocol.trail import EntryKind, TrailEntry, verify_chain
from fedn.stores.base import Document, JsonText, Lease, Put, StateStore
from tests.support.trails import make_chain, make_entry

OpenStateStore = Callable[[], StateStore]


def _outcome(call: Callable[[], Any]) -> str:
    """`done`, or the code of the conflict."""
    try:
        call()
    except Conflict as error:
        return error.code
    return "done"


# --- the trail


def test_entries_come_back_equal_in_order_and_verify_after_reopening(open_state_store: OpenStateStore) -> None:
    chain = make_chain(5)
    first = open_state_store()
    for entry in chain:
        first.append_entry(entry)
    first.close()
    store = open_state_store()
    assert store.entries("fed") == chain
    assert store.head("fed") == chain[-1]
    verify_chain(store.entries("fed"), lambda entry: None, federation="fed", expected_head=chain[-1].hash)


def test_entries_are_read_in_pages(state_store: StateStore) -> None:
    chain = make_chain(5)
    for entry in reversed(chain):
        state_store.append_entry(entry)
    assert state_store.entries("fed", 2) == chain[2:]
    assert state_store.entries("fed", 1, 2) == chain[1:3]
    assert state_store.entries("fed", 0, 0) == []
    assert state_store.entries("fed", 9) == []


def test_an_empty_trail_has_no_head(state_store: StateStore) -> None:
    state_store.append_entry(make_entry(0, federation="other"))
    assert state_store.head("fed") is None
    assert state_store.entries("fed") == []


def test_an_index_is_given_out_once_in_a_federation(state_store: StateStore) -> None:
    kept = make_entry(0, session="s1")
    state_store.append_entry(kept)
    assert _outcome(lambda: state_store.append_entry(make_entry(0, session="s2"))) == "trail_conflict"
    state_store.append_entry(make_entry(0, federation="other", session="s3"))
    assert state_store.entries("fed") == [kept]


def test_a_round_is_committed_once(state_store: StateStore) -> None:
    state_store.append_entry(make_entry(0, round_index=7))
    assert _outcome(lambda: state_store.append_entry(make_entry(1, round_index=7))) == "trail_conflict"
    state_store.append_entry(make_entry(1, round_index=7, session="s2"))
    assert [entry.index for entry in state_store.entries("fed")] == [0, 1]


def test_several_seeds_are_no_conflict(state_store: StateStore) -> None:
    for index in range(3):
        state_store.append_entry(make_entry(index, kind=EntryKind.SEED))
    assert len(state_store.entries("fed")) == 3


def test_of_writers_of_the_same_index_exactly_one_wins(open_state_store: OpenStateStore) -> None:
    stores = [open_state_store() for _ in range(4)]
    entries = [make_entry(0, session=f"s{writer}") for writer in range(12)]
    start = threading.Barrier(len(entries))

    def write(writer: int) -> str:
        start.wait(60)
        return _outcome(lambda: stores[writer % 4].append_entry(entries[writer]))

    with ThreadPoolExecutor(len(entries)) as pool:
        outcomes = list(pool.map(write, range(len(entries))))
    assert sorted(outcomes) == ["done"] + ["trail_conflict"] * 11
    assert stores[0].entries("fed") == [entries[outcomes.index("done")]]


def test_an_entry_that_is_not_json_is_refused(state_store: StateStore) -> None:
    good = make_entry(0)
    with pytest.raises(InvalidInput) as caught:
        state_store.append_entry(good.model_copy(update={"epoch": 2**63}))
    assert caught.value.code == "bad_document"
    assert state_store.head("fed") is None


# --- documents


def test_a_document_is_inserted_replaced_and_deleted(state_store: StateStore) -> None:
    assert state_store.get("sessions", "s1") is None
    state_store.insert("sessions", "s1", {"state": "running", "rounds": [1, 2]})
    assert _outcome(lambda: state_store.insert("sessions", "s1", {})) == "document_exists"
    assert state_store.get("sessions", "s1") == {"state": "running", "rounds": [1, 2]}
    state_store.put("sessions", "s1", {"state": "done"})
    assert state_store.get("sessions", "s1") == {"state": "done"}
    state_store.put("sessions", "s2", {})
    assert state_store.get("clients", "s1") is None
    assert state_store.delete("sessions", "s1") is True
    assert state_store.delete("sessions", "s1") is False
    assert state_store.get("sessions", "s1") is None
    assert state_store.get("sessions", "s2") == {}


def test_a_document_may_come_as_its_text(state_store: StateStore) -> None:
    document = {"x": 1.5, "µ": ["\u2028", None, {"y": -(2**63) + 1}], "long": "1234567890123456789012"}
    text = JsonText(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    state_store.put("things", "a", text)
    state_store.insert("things", "b", text)
    state_store.put_all([Put("things", "c", text)])
    (number,) = state_store.append_events([text])
    assert [state_store.get("things", key) for key in "abc"] == [document] * 3
    assert state_store.events() == [(number, document)]
    assert state_store.count("things", {"x": 1.5}) == 3


@pytest.mark.parametrize("bad", ['{"x":9223372036854775808}', '{"x":[{"$ref":"y"}]}', '{"a\\u0000b":1}'])
def test_a_text_that_a_store_could_not_keep_is_refused(state_store: StateStore, bad: str) -> None:
    for call in (
        lambda: state_store.put("things", "x", JsonText(bad)),
        lambda: state_store.append_events([JsonText(bad)]),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "bad_document"
    assert state_store.find("things") == []


@pytest.mark.parametrize("durable", [True, False])
def test_documents_are_put_together_and_the_last_of_a_key_stays(
    open_state_store: OpenStateStore, durable: bool
) -> None:
    store = open_state_store()
    store.put("rounds", "a", {"n": 0})
    puts = [Put("rounds", "a", {"n": 1}), Put("sessions", "s", {"n": 2}), Put("rounds", "a", {"n": 3})]
    store.put_all(puts, durable=durable)
    store.put_all([], durable=durable)
    store.put_all(puts[1:2], durable=durable)
    store.close()
    again = open_state_store()
    assert again.get("rounds", "a") == {"n": 3}
    assert again.get("sessions", "s") == {"n": 2}
    assert (again.count("rounds"), again.count("sessions")) == (1, 1)


@pytest.mark.parametrize("durable", [True, False])
def test_of_documents_that_are_inserted_together_those_that_are_there_stay(
    open_state_store: OpenStateStore, durable: bool
) -> None:
    store = open_state_store()
    store.put("validations", "b", {"n": 0})
    store.insert_all([Put("validations", key, {"n": n}) for n, key in enumerate("abca", 1)], durable=durable)
    store.insert_all([], durable=durable)
    store.close()
    again = open_state_store()
    assert [again.get("validations", key) for key in "abc"] == [{"n": 1}, {"n": 0}, {"n": 3}]


def test_new_keys_that_are_put_together_at_once_all_succeed(open_state_store: OpenStateStore) -> None:
    stores = [open_state_store() for _ in range(3)]
    puts = [Put("names", f"site-{number}", {}) for number in range(20)]
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda n: stores[n % 3].put_all(puts), range(9)))
    assert stores[0].count("names") == 20


def test_documents_are_there_after_reopening(open_state_store: OpenStateStore) -> None:
    first = open_state_store()
    first.put("sessions", "s1", {"state": "running"})
    first.close()
    assert open_state_store().get("sessions", "s1") == {"state": "running"}


def test_of_inserts_of_the_same_key_exactly_one_wins(open_state_store: OpenStateStore) -> None:
    stores = [open_state_store() for _ in range(3)]
    with ThreadPoolExecutor(9) as pool:
        outcomes = list(
            pool.map(lambda n: _outcome(lambda: stores[n % 3].insert("names", "site", {"writer": n})), range(9))
        )
    assert outcomes.count("done") == 1
    assert stores[0].get("names", "site") == {"writer": outcomes.index("done")}


def test_puts_of_a_new_key_at_once_all_succeed(open_state_store: OpenStateStore) -> None:
    stores = [open_state_store() for _ in range(3)]
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda n: stores[n % 3].put("names", "site", {"writer": n}), range(9)))
    assert stores[0].count("names") == 1


def test_find_compares_top_level_fields_as_json_does(state_store: StateStore) -> None:
    documents: dict[str, Document] = {
        "text": {"x": "1"},
        "one": {"x": 1},
        "float": {"x": 1.0},
        "true": {"x": True},
        "zero": {"x": 0},
        "false": {"x": False},
        "null": {"x": None},
        "missing": {"y": 1},
        "array": {"x": [1, "1", None, True]},
        "object": {"x": {"x": 1}},
    }
    for key, document in documents.items():
        state_store.put("things", key, document)
    state_store.put("others", "one", {"x": 1})

    def found(value: str | int | float | bool | None) -> str:
        assert state_store.count("things", {"x": value}) == len(state_store.find("things", {"x": value}))
        return repr(state_store.find("things", {"x": value}))  # by key; tells 1, 1.0 and True apart

    assert found("1") == "[{'x': '1'}]"
    assert found(1) == found(1.0) == "[{'x': 1.0}, {'x': 1}]"
    assert found(True) == "[{'x': True}]"
    assert found(0) == "[{'x': 0}]"
    assert found(False) == "[{'x': False}]"
    assert found(None) == "[{'y': 1}, {'x': None}]"
    assert state_store.find("things", {"x": 1, "y": 1}) == []
    assert state_store.count("things") == len(documents)


def test_find_orders_by_field_then_key_and_pages(state_store: StateStore) -> None:
    for key, time_s in {"a": 3.5, "b": 1, "c": 2, "d": 2, "e": None}.items():
        document: Document = {"key": key} if time_s is None else {"key": key, "time_s": time_s}
        state_store.put("things", key, document)

    def keys(**options: Any) -> str:
        return "".join(document["key"] for document in state_store.find("things", **options))

    assert keys() == "abcde"
    assert keys(descending=True) == "edcba"
    assert keys(order_by="time_s") == "ebcda"
    assert keys(order_by="time_s", descending=True) == "adcbe"
    assert keys(order_by="time_s", limit=2) == "eb"
    assert keys(order_by="time_s", limit=2, offset=2) == "cd"
    assert keys(offset=4) == "e"
    assert keys(limit=0) == ""


def test_a_session_with_a_quote_in_its_name_is_only_a_name(state_store: StateStore) -> None:
    name = 'it\'s "mine" $where {x} \\ ; DROP TABLE documents'
    state_store.put("rounds", name, {"session": name})
    assert state_store.find("rounds", {"session": name}) == [{"session": name}]
    assert state_store.get("rounds", name) == {"session": name}


@pytest.mark.parametrize("field", ["", "a.b", "$where", "a b", "x')", "a\0"])
def test_a_field_that_is_no_identifier_is_refused(state_store: StateStore, field: str) -> None:
    for call in (lambda: state_store.find("things", {field: 1}), lambda: state_store.find("things", order_by=field)):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "bad_field"


@pytest.mark.parametrize(
    "bad",
    [
        float("nan"),
        {"x": float("inf")},
        [2**63],
        {"x": b"bytes"},
        {"x": {1, 2}},
        {"a\0b": 1},
        "\ud800",
        {"$ref": "x"},
        object(),
    ],
)
def test_what_is_not_json_is_refused_and_nothing_changes(state_store: StateStore, bad: object) -> None:
    state_store.put("things", "x", {"x": 1})
    for call in (
        lambda: state_store.put("things", "x", {"x": bad}),
        lambda: state_store.insert("things", "y", {"x": [bad]}),
        lambda: state_store.append_events([{}, {"x": bad}]),
        lambda: state_store.put_all([Put("things", "x", {}), Put("things", "y", {"x": bad})]),
        lambda: state_store.insert_all([Put("things", "y", {}), Put("things", "z", {"x": bad})]),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "bad_document"
    assert state_store.find("things") == [{"x": 1}]
    assert state_store.events() == []


def test_a_document_that_is_too_large_is_refused(state_store: StateStore) -> None:
    large = {"x": "x" * (6 << 20)}
    state_store.put("things", "x", large)
    assert state_store.get("things", "x") == large
    with pytest.raises(LimitExceeded) as caught:
        state_store.put("things", "x", {"x": "x" * (8 << 20)})
    assert caught.value.code == "document_too_large"
    assert state_store.get("things", "x") == large


_KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12).filter(
    lambda key: key != "$ref"
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(_KEYS, _JSON, max_size=5))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_object_comes_back_equal(state_store: StateStore, document: Document) -> None:
    state_store.put("things", "x", document)
    found = state_store.get("things", "x")
    assert found == document
    assert repr(found) == repr(document)  # also the order of keys, and 1, 1.0 and True


# --- events


def test_events_are_numbered_and_read_after_a_number(state_store: StateStore) -> None:
    numbers = state_store.append_events([{"kind": "round", "n": n} for n in range(3)])
    numbers += state_store.append_events([{"kind": "round", "n": n} for n in range(3, 5)])
    assert state_store.append_events([]) == []
    assert numbers == sorted(set(numbers))
    assert state_store.events() == [(number, {"kind": "round", "n": n}) for n, number in enumerate(numbers)]
    assert [number for number, _ in state_store.events(numbers[1], 2)] == numbers[2:4]
    assert state_store.events(numbers[-1]) == []
    assert state_store.events(0, 0) == []


def test_trimmed_events_are_gone_and_their_numbers_never_come_again(open_state_store: OpenStateStore) -> None:
    store = open_state_store()
    numbers = store.append_events([{"n": n} for n in range(5)])
    store.trim_events(9)
    assert len(store.events()) == 5
    store.trim_events(2)
    assert [number for number, _ in store.events()] == numbers[3:]
    store.trim_events(0)
    assert store.events() == []
    store.close()
    assert open_state_store().append_events([{}]) > numbers[-1:]


def test_a_reader_who_follows_the_events_misses_none(open_state_store: OpenStateStore) -> None:
    writers = [open_state_store() for _ in range(3)]
    reader = open_state_store()
    each, last = 20, 0
    seen: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(lambda s=s: [s.append_events([{}] * 3) for _ in range(each)]) for s in writers]  # type: ignore[misc]
        deadline = time.monotonic() + 120
        while len(seen) < 9 * each and time.monotonic() < deadline:
            for number, _ in reader.events(last):
                seen.append(number)
                last = number
        written = sorted(number for job in jobs for numbers in job.result() for number in numbers)
    assert seen == written


# --- the lease


def test_a_lease_has_one_holder_and_an_epoch_that_grows(state_store: StateStore) -> None:
    before = time.time()
    first = state_store.acquire_lease("writer", "a", 100)
    assert (first.name, first.holder, first.epoch) == ("writer", "a", 1)
    assert before + 99 < first.expires_at <= time.time() + 100
    with pytest.raises(Conflict) as caught:
        state_store.acquire_lease("writer", "b", 100)
    assert caught.value.code == "lease_held"
    assert caught.value.where["holder"] == "a"
    assert 0 < float(caught.value.where["seconds_left"]) <= 101
    assert state_store.acquire_lease("other", "b", 100).epoch == 1


def test_its_holder_takes_a_lease_over_with_a_new_epoch(state_store: StateStore) -> None:
    first = state_store.acquire_lease("writer", "a", 100)
    second = state_store.acquire_lease("writer", "a", 100)
    assert second.epoch == 2
    assert _outcome(lambda: state_store.renew_lease(first, 100)) == "lease_lost"
    state_store.release_lease(first)
    assert state_store.renew_lease(second, 100).epoch == 2


def test_an_expired_lease_goes_to_who_asks(state_store: StateStore) -> None:
    first = state_store.acquire_lease("writer", "a", 0)
    assert state_store.renew_lease(first, 0).epoch == 1
    second = state_store.acquire_lease("writer", "b", 100)
    assert (second.holder, second.epoch) == ("b", 2)
    assert _outcome(lambda: state_store.renew_lease(first, 100)) == "lease_lost"
    assert _outcome(lambda: state_store.acquire_lease("writer", "a", 100)) == "lease_held"


def test_renewing_prolongs_a_lease(state_store: StateStore) -> None:
    lease = state_store.acquire_lease("writer", "a", 0)
    renewed = state_store.renew_lease(lease, 100)
    assert renewed.expires_at > lease.expires_at + 50
    assert _outcome(lambda: state_store.acquire_lease("writer", "b", 100)) == "lease_held"


def test_a_released_lease_is_free_and_its_epoch_is_remembered(open_state_store: OpenStateStore) -> None:
    store = open_state_store()
    store.release_lease(store.acquire_lease("writer", "a", 100))
    store.close()
    again = open_state_store()
    assert again.acquire_lease("writer", "b", 100).epoch == 2
    again.release_lease(Lease("never held", "b", 1, 0.0))


def test_of_those_who_ask_for_a_free_lease_exactly_one_gets_it(open_state_store: OpenStateStore) -> None:
    stores = [open_state_store() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(
            pool.map(lambda n: _outcome(lambda: stores[n % 4].acquire_lease("writer", f"h{n}", 100)), range(8))
        )
    assert sorted(outcomes) == ["done"] + ["lease_held"] * 7


# --- names and liveness


@pytest.mark.parametrize("collection", ["", "a/b", "a.b", "$x", "x'"])
def test_a_collection_that_is_no_identifier_is_refused(state_store: StateStore, collection: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        state_store.put(collection, "x", {})
    assert caught.value.code == "bad_collection"


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800"])
def test_a_key_that_no_store_could_keep_is_refused(state_store: StateStore, key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        state_store.put("things", key, {})
    assert caught.value.code == "bad_key"


def test_a_store_that_runs_answers(state_store: StateStore) -> None:
    state_store.ping()


def test_entries_keep_every_bit_of_a_float(state_store: StateStore) -> None:
    values = {"a": 0.1, "b": 1 / 3, "c": 5e-324, "d": 1.7976931348623157e308, "e": -0.0, str(uuid.uuid4()): 3.0}
    entry = make_entry(0, metrics={"val.loss": 2.0, "$x": 1.0, **values})
    state_store.append_entry(entry)
    found = state_store.head("fed")
    assert isinstance(found, TrailEntry)
    assert repr(found) == repr(entry)
