"""Commits of clients' latest models over two combiners equal the flat mean, in whatever order updates come.

The engine's flights, the combiners' lineages and the reducer's aggregation are real; between them there is no network.
"""

import asyncio
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.fedrec import FedRec
from fedn.combiner.lineage import Lineages
from fedn.models.digest import ALGORITHM
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from fedn.plan.session import SessionPlan
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState
from fedn.protocol.tasks import RoundName, TaskKind
from fedn.reducer.engine.buffer_part import HandedUp
from fedn.reducer.engine.global_model import aggregate, global_model
from fedn.reducer.engine.mean_flights import MeanFlights
from fedn.reducer.engine.part import PartLost
from fedn.reducer.engine.roster import AttachedClient, Roster
from fedn.scheduling.asynchronous import Asynchronous
from fedn.stores.updates.base import UpdateFacts
from fedn.stores.updates.eviction import LineageLength
from fedn.stores.updates.memory import MemoryShelf
from fedn.stores.updates.store import UpdateStore

WEIGHTS = {"a": 1.0, "b": 10.0, "c": 300.0, "d": 7.0}
OTHER = {"c1": "c2", "c2": "c1"}
PLAN = SessionPlan(rule="fedrec", scheduler="asynchronous")


class LocalPart:
    """A part without a link: its combiner is a lineage here."""

    over = dies = False

    def __init__(self, combiner, lineage):
        self.combiner, self._lineage, self._number = combiner, lineage, 0

    def start(self):
        self._number = 0

    def add(self, tasks):
        assert tasks

    def acknowledge(self):
        self.over = True

    def cancel(self, reason):
        assert reason
        self.over = True

    def acknowledge_hand_up(self, handed):
        assert 0 < handed.number <= self._number

    async def hand_up(self, members):
        if self.dies:
            raise PartLost("combiner_lost", "the combiner is gone")
        self._number += 1
        with self._lineage.sealed(members) as (made, counted):
            if made is None:
                return None
            model = CombinerModel(
                combiner=self.combiner,
                model_id=f"{self.combiner}-{self._number}",
                weight=made.weight,
                contributions=tuple(
                    Contribution(
                        client=kept.client,
                        update_id=kept.update_id,
                        num_examples=kept.num_examples,
                        weight=kept.weight,
                        base_index=kept.round_index,
                    )
                    for kept in counted
                ),
            )
            data = b"".join(bytes(piece) for piece in made.result(1 << 16))
        return HandedUp(self._number, model), Pieces.of(data)


class Session:
    """Clients that train, come and move, and what the definition says of the commits."""

    def __init__(self, arrivals, places):
        self.arrivals, self.places = arrivals, dict(places)
        self.lineages = {
            name: Lineages(UpdateStore(MemoryShelf(), LineageLength(1), 1 << 20)).of("s", FedRec()) for name in OTHER
        }
        for lineage in self.lineages.values():
            lineage.open()
        self.roster = Roster(lambda *what, **more: None)
        context = SimpleNamespace(roster=self.roster, linked=lambda: sorted(OTHER))
        self.flights = MeanFlights(
            lambda base, combiner, tasks: LocalPart(combiner, self.lineages[combiner]),
            asyncio.Event(),
            Asynchronous(arrivals=arrivals),
            context,
        )
        self.ledger = {}
        self.refused = {}
        """Client to the code of what became of its update instead."""
        self.flights.round = SimpleNamespace(
            enter=lambda entry: self.ledger.update({entry.client: entry}),
            override=lambda client, state, reason: self.refused.update({client: reason.code}),
        )
        self.models = [np.zeros(3, np.float32)]
        self.spec = read_spec(encode({"w": self.models[0]}))
        self.tasks = {}
        """Client to (base, combiner) of the task that it works on."""
        self.latest = {}
        """By definition: client to (model, combiner, round whose model it was made from)."""
        self.arrived = set()
        self.clock = self.sent = 0
        for client in WEIGHTS:
            self.attach(client)
        self.ask()

    def attach(self, client):
        self.clock += 1
        train = frozenset({TaskKind.TRAIN})
        self.roster.attach(AttachedClient(client, self.places[client], train, {}, float(self.clock)))

    def move(self, client):
        self.places[client] = OTHER[self.places[client]]
        self.attach(client)

    def ask(self):
        index = len(self.models) - 1
        name = RoundName(session="s", index=index, attempt=0, epoch=1)
        self.base = self.flights.base(name, SimpleNamespace(model_id=str(index)))
        free = [client for client in WEIGHTS if client not in self.tasks and client not in self.arrived]
        for combiner in OTHER:
            mine = [client for client in free if self.places[client] == combiner]
            if mine:
                tasks = [SimpleNamespace(client=client, kind=TaskKind.TRAIN) for client in mine]
                self.flights.ask(self.base, {combiner: tasks})
        self.tasks |= {client: (self.base, self.places[client]) for client in free}

    async def train(self, client, drift):
        self.tell(*self.put(client, drift))
        assert self.flights.arrived == len(self.arrived)
        if len(self.arrived) >= self.arrivals:
            await self.commit()

    def put(self, client, drift):
        """The client's update comes to its combiner; what that will tell the reducer."""
        base, combiner = self.tasks.pop(client)
        self.sent += 1
        model = (self.models[base.index] + np.float32(drift)).astype(np.float32)
        facts = UpdateFacts(
            session="s",
            client=client,
            round_index=base.index,
            update_id=f"u{self.sent}",
            base_model_id=str(base.index),
            num_examples=1,
            weight=WEIGHTS[client],
        )
        self.lineages[combiner].put(facts, Pieces.of(encode({"w": model})))
        self.latest[client] = (model.astype(np.float64), combiner, base.index)
        state = LedgerState.UPDATED
        return base, LedgerEntry(client=client, combiner=combiner, state=state, update_id=facts.update_id)

    def tell(self, base, entry):
        self.flights.note(base, entry)
        self.arrived.add(entry.client)

    async def commit(self):
        index = len(self.models) - 1
        await self.flights.collect(self.base)
        counting = {
            client: known
            for client, known in self.latest.items()
            if client in self.arrived or known[1] == self.places[client]
        }
        # A combiner that is asked forgets who moved away; elsewhere that client may find its latest update again.
        asked = {place for _, place, _ in counting.values()}
        elsewhere = {client: known for client, known in self.latest.items() if known[1] not in asked}
        self.latest = {**elsewhere, **counting}
        parts = self.flights.results
        counted = {part.client: (made.model.combiner, part) for made in parts for part in made.model.contributions}
        assert sum(len(made.model.contributions) for made in parts) == len(counted)
        assert {client: (place, part.base_index) for client, (place, part) in counted.items()} == {
            client: (place, base_index) for client, (_, place, base_index) in counting.items()
        }
        assert self.flights.counted(index) == {
            client: (index - self.latest[client][2], WEIGHTS[client]) for client in self.arrived
        }
        base = global_model("blake3:" + "0" * 64, self.spec, FedRec())
        shares, form = self.flights.shares(index), self.flights.form
        made = aggregate(parts, base, PLAN, ALGORITHM, None, shares, form)
        model = decode(b"".join(bytes(piece) for piece in made.shared.data()))["w"]
        values = np.array([known[0] for known in counting.values()])
        flat = np.average(values, axis=0, weights=[WEIGHTS[client] for client in counting])
        np.testing.assert_allclose(model, flat, rtol=1e-6, atol=1e-6 * float(np.abs(values).max()))
        self.models.append(model)
        self.flights.settle()
        self.flights.release(index + 1)
        self.arrived.clear()
        assert self.flights.arrived == 0
        self.ask()


EVENTS = st.tuples(st.sampled_from("abcd"), st.booleans(), st.floats(-1000, 1000, width=32))


@settings(max_examples=150, deadline=None)
@given(
    arrivals=st.integers(1, len(WEIGHTS)),
    places=st.fixed_dictionaries(dict.fromkeys(WEIGHTS, st.sampled_from(sorted(OTHER)))),
    events=st.lists(EVENTS, min_size=1, max_size=40),
)
def test_any_order_of_arrivals_and_moves_gives_the_mean_of_each_clients_latest_model(arrivals, places, events):
    async def play():
        session = Session(arrivals, places)
        for client, moves, drift in events:
            if moves:
                session.move(client)
            elif client in session.tasks:
                await session.train(client, drift)

    asyncio.run(play())


AT_C1_BUT_B = {"a": "c1", "b": "c2", "c": "c1", "d": "c1"}


def test_a_commit_waits_for_the_ledger_to_tell_of_an_update_that_is_in_it():
    async def play():
        session = Session(1, AT_C1_BUT_B)
        untold = session.put("a", 5.0)
        commit = asyncio.create_task(session.train("b", 2.0))
        for _ in range(9):
            await asyncio.sleep(0)
        assert not commit.done()
        session.tell(*untold)
        await commit
        assert len(session.models) == 2 and not session.refused

    asyncio.run(play())


def test_an_update_that_a_combiner_told_of_and_lost_is_refused_and_counts_for_no_commit():
    async def play():
        session = Session(2, AT_C1_BUT_B)
        await session.train("a", 5.0)
        session.lineages["c1"].keep_only(frozenset())
        session.tell(*session.put("b", 2.0))
        await session.flights.collect(session.base)
        assert session.refused == {"a": "not_counted"}
        assert session.flights.arrived == session.flights.handed == 1

    asyncio.run(play())


def test_a_combiner_that_is_lost_when_it_is_asked_takes_its_updates_along_and_no_others():
    async def play():
        session = Session(2, AT_C1_BUT_B)
        await session.train("a", 5.0)
        session.tell(*session.put("b", 2.0))
        (lost,) = (part for part in session.base.parts.values() if part.combiner == "c1")
        lost.dies = True
        await session.flights.collect(session.base)
        assert session.refused == dict.fromkeys("acd", "combiner_lost")
        assert session.flights.arrived == session.flights.handed == 1
        assert [made.model.combiner for made in session.flights.results] == ["c2"]

    asyncio.run(play())
