"""Whatever comes, goes, is lost or restarted: what is handed up is the mean of the latest models by definition."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedn.aggregation.fedrec import FedRec
from fedn.combiner.lineage import Lineages
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode
from fedn.protocol.errors import StoreUnavailable
from fedn.stores.updates.base import UpdateFacts
from fedn.stores.updates.eviction import LineageLength
from fedn.stores.updates.store import UpdateStore
from tests.unit.combiner.test_lineage import Shelf

CLIENTS = st.sampled_from("abcd")
MODELS = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=2)
WEIGHTS = st.one_of(st.integers(1, 1000).map(float), st.floats(1e-3, 1e12))


class LineageMachine(RuleBasedStateMachine):
    """A lineage on a store that may be away or lose updates, and the dictionary of what must count."""

    @initialize(length=st.integers(1, 3))
    def open(self, length):
        self.shelf, self.length = Shelf(), length
        self.latest = {}
        """Client to its (model, weight)."""
        self.lost = set()
        """Clients whose updates the shelf has lost, while they still count."""
        self.restart()

    @rule()
    def restart(self):
        self.shelf.away = False
        self.lineage = Lineages(UpdateStore(self.shelf, LineageLength(self.length), 1 << 20)).of("s", FedRec())
        self.lineage.keep_only(frozenset("abcd"))
        self._forget_lost()

    @rule(client=CLIENTS, model=MODELS, weight=WEIGHTS)
    def put(self, client, model, weight):
        facts = UpdateFacts(
            session="s",
            client=client,
            round_index=0,
            update_id="u",
            base_model_id="b",
            num_examples=1,
            weight=weight,
        )
        data = Pieces.of(encode({"w": np.array(model, np.float32)}))
        if self.shelf.away:
            try:
                self.lineage.put(facts, data)
            except StoreUnavailable:
                return
            raise AssertionError("an update was taken that cannot be kept")
        self.lineage.put(facts, data)
        if client in self.lost:  # then it is noticed
            self._forget_lost()
        self.latest[client] = model, weight

    @precondition(lambda self: not self.shelf.away and not self.lost)
    @rule(members=st.frozensets(CLIENTS))
    def keep_only(self, members):
        self.lineage.keep_only(members)
        self.latest = {client: known for client, known in self.latest.items() if client in members}

    @precondition(lambda self: not self.shelf.away and not self.lost)
    @rule(members=st.frozensets(CLIENTS))
    def hand_up(self, members):
        with self.lineage.sealed(members) as (_, counted):
            assert [kept.client for kept in counted] == sorted(members & self.latest.keys())
        self.latest = {client: known for client, known in self.latest.items() if client in members}

    @precondition(lambda self: not self.shelf.away)
    @rule()
    def make_anew(self):
        self.lineage.make_anew()
        self._forget_lost()

    @rule(clients=st.sets(CLIENTS, max_size=2))
    def lose(self, clients):
        self.shelf.lose(*clients)
        self.lost |= clients & self.latest.keys()

    @rule()
    def go_away(self):
        self.shelf.away = True

    @rule()
    def come_back(self):
        self.shelf.away = False

    def _forget_lost(self):
        for client in self.lost:
            del self.latest[client]
        self.lost = set()

    @invariant()
    def hands_up_the_mean_of_the_latest_models(self):
        try:
            with self.lineage.sealed() as (aggregate, counted):
                names = [kept.client for kept in counted]
                got = None if aggregate is None else decode(b"".join(bytes(one) for one in aggregate.result(64)))["w"]
                weight = 0.0 if aggregate is None else aggregate.weight
        except StoreUnavailable:
            assert self.shelf.away  # it has drifted, and is made anew when the store is back
            return
        if names != sorted(self.latest):  # it had drifted: with that, what was lost is noticed
            assert names == sorted(self.latest.keys() - self.lost)
            self._forget_lost()
        if not names:
            assert got is None
            return
        models, weights = zip(*(self.latest[name] for name in names), strict=True)
        values = np.array(models, np.float32).astype(np.float64)
        scale = float((np.array(weights) * np.abs(values).max(axis=1)).sum() / sum(weights))
        np.testing.assert_allclose(weight, sum(weights), rtol=1e-10)
        np.testing.assert_allclose(got, np.average(values, axis=0, weights=weights), rtol=1e-7, atol=2**-37 * scale)


TestLineage = LineageMachine.TestCase
TestLineage.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
