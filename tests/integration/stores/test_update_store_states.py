"""Whatever is done to an update store, in whatever order: it holds what a plain dictionary says."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fedn.protocol.errors import LimitExceeded
from fedn.stores.updates.eviction import LineageLength, NoEviction
from tests.integration.stores.update_stores import data, facts, shelf_opener, store_on

SESSIONS = st.sampled_from(["s", "t"])
CLIENTS = st.sampled_from(["a", "b", "c"])
SIZES = st.integers(0, 2500)
MAX_BYTES = 9000


class StoreMachine(RuleBasedStateMachine):
    """The store, and the dictionary: (session, client) to its (round, bytes), old to new."""

    kind: str
    redis_url: str

    @initialize(length=st.one_of(st.none(), st.integers(1, 3)))
    def open(self, length):
        self.folder = Path(tempfile.mkdtemp())
        self.open_shelf = shelf_opener(self.kind, self.folder, lambda: self.redis_url)
        self.length = length
        self.model = {}
        self.rounds = 0
        self.store = self.opened()

    def opened(self):
        eviction = NoEviction() if self.length is None else LineageLength(self.length)
        return store_on(self.open_shelf(), eviction, MAX_BYTES)

    @rule(session=SESSIONS, client=CLIENTS, size=SIZES)
    def insert(self, session, client, size):
        self.rounds += 1
        update = data(self.rounds, size)
        lineage = [*self.model.get((session, client), []), (self.rounds, update.copy())]
        kept = lineage if self.length is None else lineage[-self.length :]
        after = {**self.model, (session, client): kept}
        given = facts(client, self.rounds, session)
        if sum(len(one) for rows in after.values() for _, one in rows) > MAX_BYTES:
            with pytest.raises(LimitExceeded):
                self.store.insert(given, update)
        else:
            self.store.insert(given, update)
            self.model = after

    @rule(session=SESSIONS, client=CLIENTS, count=st.one_of(st.none(), st.integers(1, 4)))
    def select(self, session, client, count):
        expected = self.model.get((session, client), [])[-(count or 0) :]
        found = self.store.select(session, {client: count})[client]
        assert [(kept.round_index, self.store.read(kept).copy()) for kept in found] == expected

    @rule(session=SESSIONS, client=CLIENTS)
    def erase(self, session, client):
        self.store.erase(session, [client])
        self.model.pop((session, client), None)

    @rule(session=SESSIONS)
    def reset(self, session):
        self.store.reset(session)
        self.model = {place: rows for place, rows in self.model.items() if place[0] != session}

    @rule()
    def expunge(self):
        self.store.expunge()
        self.model = {}

    @rule()
    def open_again(self):
        self.store = self.opened()
        self.store.sessions()

    @invariant()
    def holds_what_the_dictionary_says(self):
        rows = [one for lineage in self.model.values() for _, one in lineage]
        statistics = self.store.statistics
        assert (statistics.entries, statistics.size_bytes) == (len(rows), sum(map(len, rows)))
        assert self.store.sessions() == sorted({session for session, _ in self.model})
        for session in self.store.sessions():
            assert self.store.clients(session) == sorted(client for of, client in self.model if of == session)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.expunge()
            self.store.close()
            shutil.rmtree(self.folder)


@pytest.mark.parametrize(("kind", "examples"), [("memory", 100), ("files", 60), ("redis", 40)])
def test_the_store_holds_what_a_plain_dictionary_says(kind: str, examples: int, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("redis_url") if kind == "redis" else ""
    machine = type("Machine", (StoreMachine,), {"kind": kind, "redis_url": url})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))
