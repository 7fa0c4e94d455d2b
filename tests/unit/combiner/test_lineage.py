"""What counts of clients' earlier updates, whatever happens to the store that keeps them."""

from collections.abc import Sequence

import numpy as np
import pytest

from fedn.aggregation.fedrec import FedRec
from fedn.combiner.lineage import Lineage, Lineages
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode
from fedn.protocol.errors import InvalidInput, LimitExceeded, StoreUnavailable
from fedn.stores.updates.base import KeptUpdate, UpdateFacts
from fedn.stores.updates.eviction import LineageLength
from fedn.stores.updates.memory import MemoryShelf
from fedn.stores.updates.store import UpdateStore

EVERYBODY = frozenset("abc")


class Shelf(MemoryShelf):
    """Away, or without some updates, when it is told so; what was written outlives its store."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("store_unavailable", "away")

    def load(self) -> list[KeptUpdate]:
        self._check()
        return super().load()

    def write(self, update: KeptUpdate, data: Pieces) -> None:
        self._check()
        super().write(update, data)

    def read(self, update: KeptUpdate) -> Pieces:
        self._check()
        return super().read(update)

    def remove(self, updates: Sequence[KeptUpdate]) -> None:
        self._check()
        super().remove(updates)

    def lose(self, *clients: str) -> None:
        for number, (update, _) in list(self._data.items()):
            if update.client in clients:
                del self._data[number]


def store_on(shelf: Shelf, max_bytes: int = 1 << 20) -> UpdateStore:
    return UpdateStore(shelf, LineageLength(1), max_bytes)


def lineage_on(shelf: Shelf, session: str = "s", members: frozenset[str] = EVERYBODY) -> Lineage:
    made = Lineages(store_on(shelf)).of(session, FedRec())
    made.keep_only(members)
    return made


def put(lineage: Lineage, client: str, value: float, weight: float = 1.0) -> None:
    facts = UpdateFacts(
        session=lineage.session,
        client=client,
        round_index=0,
        update_id="u",
        base_model_id="b",
        num_examples=1,
        weight=weight,
    )
    lineage.put(facts, Pieces.of(encode({"w": np.array([value], np.float32)})))


def state(lineage: Lineage) -> tuple[float | None, str]:
    """(What the rule makes of what counts, names of the clients that do)."""
    with lineage.sealed() as (aggregate, counted):
        names = "".join(kept.client for kept in counted)
        if aggregate is None:
            return None, names
        return float(decode(b"".join(bytes(piece) for piece in aggregate.result(64)))["w"][0]), names


def test_a_new_update_replaces_its_clients_one_before() -> None:
    lineage = lineage_on(Shelf())
    assert state(lineage) == (None, "")
    put(lineage, "a", 1.0)
    put(lineage, "b", 4.0, weight=2.0)
    assert state(lineage) == (3.0, "ab")
    put(lineage, "b", 7.0)
    assert state(lineage) == (4.0, "ab")


def test_who_is_no_member_any_more_is_taken_out_and_forgotten() -> None:
    shelf = Shelf()
    lineage = lineage_on(shelf)
    for client, value in (("a", 1.0), ("b", 4.0), ("c", 10.0)):
        put(lineage, client, value)
    lineage.keep_only(frozenset("ac"))
    assert state(lineage) == (5.5, "ac")
    assert {update.client for update in shelf.load()} == {"a", "c"}
    lineage.keep_only(frozenset())
    assert state(lineage) == (None, "")
    put(lineage, "b", 2.0)
    assert state(lineage) == (2.0, "b")


def test_after_a_restart_what_the_store_has_of_members_counts() -> None:
    shelf = Shelf()
    first = lineage_on(shelf)
    for client, value in (("a", 1.0), ("b", 4.0), ("c", 10.0)):
        put(first, client, value)
    again = lineage_on(shelf, members=frozenset("ab"))
    assert state(again) == (2.5, "ab")
    put(again, "a", 2.0)
    assert state(again) == (3.0, "ab")


def test_another_sessions_updates_are_forgotten() -> None:
    shelf = Shelf()
    put(lineage_on(shelf, "old"), "a", 1.0)
    new = lineage_on(shelf, "new")
    assert state(new) == (None, "")
    assert shelf.load() == []
    lineages = Lineages(store_on(shelf))
    assert lineages.of("x", FedRec()) is lineages.of("x", FedRec())
    assert lineages.of("x", FedRec()) is not lineages.of("y", FedRec())


def test_what_the_store_lost_counts_no_longer_from_when_it_is_noticed() -> None:
    shelf = Shelf()
    lineage = lineage_on(shelf)
    for client, value in (("a", 1.0), ("b", 4.0), ("c", 10.0)):
        put(lineage, client, value)
    shelf.lose("a", "b")
    assert state(lineage) == (5.0, "abc")  # each is still the latest model of its client
    put(lineage, "a", 2.0)
    assert state(lineage) == (6.0, "ac")
    shelf.lose("a", "c")
    lineage.keep_only(frozenset("a"))
    assert state(lineage) == (None, "")


def test_a_store_that_is_away_refuses_an_update_and_changes_nothing() -> None:
    shelf = Shelf()
    lineage = lineage_on(shelf)
    put(lineage, "a", 1.0)
    put(lineage, "b", 3.0)
    shelf.away = True
    for client in "abc":
        with pytest.raises(StoreUnavailable):
            put(lineage, client, 100.0)
    assert state(lineage) == (2.0, "ab")  # needs no store
    shelf.away = False
    put(lineage, "a", 5.0)
    assert state(lineage) == (4.0, "ab")


def test_a_store_that_goes_away_while_all_is_made_anew_is_asked_again() -> None:
    shelf = Shelf()
    lineage = lineage_on(shelf)
    for client, value in (("a", 1.0), ("b", 4.0), ("c", 10.0)):
        put(lineage, client, value)
    shelf.away = True
    with pytest.raises(StoreUnavailable):
        lineage.make_anew()
    with pytest.raises(StoreUnavailable):
        state(lineage)
    with pytest.raises(StoreUnavailable):
        put(lineage, "a", 2.0)
    shelf.away = False
    assert state(lineage) == (5.0, "abc")
    put(lineage, "a", 4.0)
    assert state(lineage) == (6.0, "abc")


def test_a_client_that_diverged_once_leaves_no_trace() -> None:
    lineage = lineage_on(Shelf())
    put(lineage, "a", 0.25)
    put(lineage, "b", 3e38, weight=1e9)
    put(lineage, "b", 0.75)
    assert state(lineage) == (0.5, "ab")
    put(lineage, "c", 0.0, weight=1e18)
    lineage.keep_only(frozenset("ab"))
    assert state(lineage) == (0.5, "ab")


def test_a_full_store_refuses_the_update_with_what_to_do() -> None:
    lineage = Lineages(store_on(Shelf(), max_bytes=100)).of("s", FedRec())
    lineage.keep_only(EVERYBODY)
    put(lineage, "a", 1.0)
    with pytest.raises(LimitExceeded, match=r"updates\.max_bytes"):
        put(lineage, "b", 2.0)
    put(lineage, "a", 3.0)
    assert state(lineage) == (3.0, "a")


def test_other_tensors_than_before_are_refused() -> None:
    lineage = lineage_on(Shelf())
    put(lineage, "a", 1.0)
    facts = UpdateFacts(
        session="s", client="b", round_index=0, update_id="u", base_model_id="b", num_examples=1, weight=1.0
    )
    with pytest.raises(InvalidInput, match="other tensors"):
        lineage.put(facts, Pieces.of(encode({"v": np.zeros(1, np.float32)})))
    assert state(lineage) == (1.0, "a")


def test_without_a_store_that_keeps_enough_the_rule_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"updates\.kind"):
        Lineages(None).of("s", FedRec())

    class Longer(FedRec):
        lineage = 2

    with pytest.raises(InvalidInput, match=r"updates\.lineage_length"):
        Lineages(store_on(Shelf())).of("s", Longer())


def test_what_came_of_a_client_that_is_not_known_to_be_here_yet_counts_when_it_is() -> None:
    shelf = Shelf()
    lineage = Lineages(store_on(shelf)).of("s", FedRec())
    lineage.open()
    put(lineage, "a", 1.0)
    put(lineage, "b", 4.0)
    for members, expected in (("a", (1.0, "a")), ("ab", (2.5, "ab")), ("a", (1.0, "a")), ("ab", (1.0, "a"))):
        with lineage.sealed(frozenset(members)):
            pass
        assert state(lineage) == expected
    assert {update.client for update in shelf.load()} == {"a"}


def test_a_combiner_that_begins_anew_hands_up_what_its_store_has_of_the_members() -> None:
    shelf = Shelf()
    before = Lineages(store_on(shelf)).of("s", FedRec())
    before.open()
    for client, value in (("a", 1.0), ("b", 4.0), ("c", 10.0)):
        put(before, client, value)
    lineage = Lineages(store_on(shelf)).of("s", FedRec())
    lineage.open()
    put(lineage, "c", 7.0)
    assert state(lineage) == (4.0, "abc")
    with lineage.sealed(frozenset("bc")) as (_, counted):
        assert [kept.client for kept in counted] == ["b", "c"]
    assert state(lineage) == (5.5, "bc")
