"""Worker groups at the reducer: who may join as which rank, where the group meets, and what outlives a restart."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedn.network.tickets import TicketIssuer, TicketVerifier
from fedn.network.tokens import Role, TokenIssuer, TokenVerifier, create_or_load_signing_key
from fedn.protocol.errors import FednError
from fedn.protocol.rest import (
    CombinerHeartbeat,
    CombinerRegistration,
    WorkerGroupReport,
    WorkerGroupRequest,
    WorkerReport,
)
from fedn.reducer.assignment import Refusal
from fedn.reducer.events import EventLog
from fedn.reducer.registry import Registry
from fedn.reducer.worker_groups import WorkerGroups, WorkerPlace
from fedn.stores.sqlite import SqliteStateStore


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


class Bench:
    """A registry of combiners, and groups, at a time that the test says."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.state = SqliteStateStore(folder / "state.db")
        self.events = EventLog(self.state, clock=self.clock)
        self.events.start()
        self.registry = Registry(self.state, self.events, dead_after_s=6, clock=self.clock)
        self.key = create_or_load_signing_key(folder / "key")
        self.groups = self.restarted()

    def restarted(self) -> WorkerGroups:
        groups = WorkerGroups(
            self.state,
            self.registry,
            TicketIssuer(self.key, "f", clock=self.clock),
            ttl_s=600,
            max_groups=3,
            max_size=5,
            dead_after_s=6,
            clock=self.clock,
        )
        groups.start()
        return groups

    def combiner(self, name: str, port: int) -> None:
        registration = CombinerRegistration(name=name, host="localhost", port=port, max_clients=9, instance=name)
        self.registry.register(registration)

    def beat(self, name: str) -> None:
        self.registry.heartbeat(name, CombinerHeartbeat(instance=name))

    def join(self, client: str, group: str = "g", rank: int | None = None, **more: object) -> WorkerPlace:
        place = self.groups.join(client, group, rank, **more)  # type: ignore[arg-type]
        assert isinstance(place, WorkerPlace), place
        return place

    def close(self) -> None:
        self.registry.stop()
        self.events.stop()
        self.state.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.combiner("c1", 1)
    bench.groups.create(WorkerGroupRequest(name="g", size=3))
    yield bench
    bench.close()


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(FednError) as caught:
        call()
    return caught.value.code


def test_ranks_are_given_in_order_kept_and_moved_when_asked_for(bench: Bench) -> None:
    assert [bench.join(client).rank for client in ("a", "b", "a")] == [0, 1, 0]
    assert bench.join("b", rank=2).rank == 2
    assert [(m.rank, m.client) for m in bench.groups.get("g").members] == [(0, "a"), (2, "b")]
    assert bench.join("c").rank == 1


def test_ranks_that_are_given_or_do_not_exist_are_refused(bench: Bench) -> None:
    bench.join("a")
    assert code_of(lambda: bench.join("b", rank=0)) == "rank_given"
    assert code_of(lambda: bench.join("b", rank=3)) == "no_such_worker"
    bench.join("b")
    bench.join("c")
    assert code_of(lambda: bench.join("d")) == "worker_group_full"
    assert code_of(lambda: bench.join("a", group="other")) == "no_such_worker_group"


def test_only_clients_of_its_scope_join(bench: Bench) -> None:
    bench.groups.create(WorkerGroupRequest(name="s", size=3, clients=("north-*", "x")))
    assert bench.join("north-1", "s").rank == 0
    assert bench.join("x", "s").rank == 1
    assert code_of(lambda: bench.join("south-1", "s")) == "not_in_scope"


def test_names_sizes_and_numbers_of_groups_are_bounded(bench: Bench) -> None:
    def create(name: str, size: int = 1) -> str:
        return code_of(lambda: bench.groups.create(WorkerGroupRequest(name=name, size=size)))

    assert create("g") == "worker_group_exists"
    assert create("a/b") == "bad_name"
    assert create("h", 6) == "worker_group_too_large"
    for name in ("h", "i"):
        bench.groups.create(WorkerGroupRequest(name=name, size=5))
    assert create("j") == "too_many_groups"
    bench.groups.delete("h")
    assert code_of(lambda: bench.groups.get("h")) == "no_such_worker_group"
    bench.groups.create(WorkerGroupRequest(name="j", size=5))
    assert [view.name for view in bench.groups.list()] == ["g", "i", "j"]


def test_a_ticket_says_what_combiners_must_know_and_they_believe_no_other(bench: Bench, tmp_path: Path) -> None:
    place = bench.join("a")
    public = TokenIssuer(bench.key, "f").public_key_pem
    ticket = TicketVerifier(public, "f", clock=bench.clock).verify(place.ticket)
    assert (ticket.client, ticket.group, ticket.rank, ticket.size) == ("a", "g", 0, 3)
    assert (ticket.home, ticket.host, ticket.port) == ("c1", "localhost", 1)
    assert code_of(lambda: TicketVerifier(public, "other", clock=bench.clock).verify(place.ticket)) == "token_bad"
    foreign = TokenIssuer(create_or_load_signing_key(tmp_path / "foreign"), "f").public_key_pem
    assert code_of(lambda: TicketVerifier(foreign, "f", clock=bench.clock).verify(place.ticket)) == "token_bad"
    bench.clock.now += 700
    assert code_of(lambda: TicketVerifier(public, "f", clock=bench.clock).verify(place.ticket)) == "token_expired"


def test_a_token_is_no_ticket_and_a_ticket_no_token(bench: Bench) -> None:
    issuer = TokenIssuer(bench.key, "f", clock=bench.clock)
    verifier = TicketVerifier(issuer.public_key_pem, "f", clock=bench.clock)
    assert code_of(lambda: verifier.verify(issuer.issue("a", Role.CLIENT, 600))) == "token_bad"
    tokens = TokenVerifier(issuer.public_key_pem, "f", clock=bench.clock)
    assert code_of(lambda: tokens.verify(bench.join("a").ticket)) == "token_bad"


def test_the_home_stays_while_it_lives_and_moves_only_when_it_is_dead(bench: Bench) -> None:
    bench.combiner("c2", 2)
    assert bench.join("a").group.home == "c1"
    assert bench.join("b", avoid=("c1",)).combiner.name == "c2"  # attaches elsewhere, and still meets there
    assert bench.groups.get("g").home == "c1"
    bench.registry.remove("c1")
    assert bench.join("c").group.home == "c2"


def test_a_home_that_was_just_heard_is_waited_for(bench: Bench) -> None:
    bench.join("a")
    bench.registry = Registry(bench.state, bench.events, dead_after_s=6, clock=bench.clock)
    bench.registry.start()  # the reducer was restarted: nobody has shown itself yet
    bench.groups = bench.restarted()
    bench.combiner("c2", 2)
    found = bench.groups.join("a", "g", None)
    assert isinstance(found, Refusal) and found.code == "home_away"
    bench.beat("c1")
    assert bench.join("a").group.home == "c1"


def test_a_home_that_shows_no_sign_of_life_is_given_up(bench: Bench) -> None:
    bench.join("a")
    bench.registry = Registry(bench.state, bench.events, dead_after_s=6, clock=bench.clock)
    bench.registry.start()
    bench.groups = bench.restarted()
    bench.combiner("c2", 2)
    bench.clock.now += 7
    assert bench.join("a").group.home == "c2"


def test_without_a_combiner_the_rank_is_kept_and_the_worker_asks_again(bench: Bench) -> None:
    bench.registry.remove("c1")
    found = bench.groups.join("a", "g", 2)
    assert isinstance(found, Refusal) and found.code == "no_combiner"
    bench.combiner("c1", 1)
    assert bench.join("a").rank == 2


def test_groups_outlive_the_reducer(bench: Bench) -> None:
    bench.join("a", rank=1)
    before = bench.groups.get("g")
    assert bench.restarted().get("g") == before


def test_a_client_that_is_forgotten_frees_its_rank(bench: Bench) -> None:
    bench.join("a")
    bench.groups.free_ranks_of("a")
    assert bench.join("b").rank == 0


def test_homes_are_spread_over_combiners(bench: Bench) -> None:
    bench.combiner("c2", 2)
    bench.join("a")
    bench.groups.create(WorkerGroupRequest(name="h", size=1))
    assert bench.join("a", "h").group.home == "c2"
    assert bench.join("b", combiner="c2").combiner.name == "c2"


def report(run: str, **counts: int) -> WorkerGroupReport:
    return WorkerGroupReport(group="g", run=run, workers=(WorkerReport(rank=0, state="attached", **counts),))


def test_what_homes_report_is_summed_up_over_runs_and_a_repeated_report_counts_once(bench: Bench) -> None:
    bench.join("a")
    for said in (
        report("first", sent_messages=2, sent_bytes=20, spooled_bytes=5),
        report("first", sent_messages=3, sent_bytes=30),
        report("first", sent_messages=3, sent_bytes=30),
        report("second", sent_messages=1, sent_bytes=7, spooled_bytes=7),
        report("first", sent_messages=4, sent_bytes=40),
    ):
        bench.groups.note("c1", [said])
    view = bench.groups.get("g")
    (member,) = view.members
    assert (member.traffic.sent_messages, member.traffic.sent_bytes, member.traffic.state) == (5, 47, "attached")
    assert (view.traffic.sent_messages, view.traffic.sent_bytes, view.attached) == (5, 47, 1)
    assert view.traffic.spooled_bytes == 0  # what there is now, as it was said last


def test_only_the_home_speaks_for_a_group_and_only_of_ranks_that_it_has(bench: Bench) -> None:
    bench.combiner("c2", 2)
    bench.join("a")
    away = "c2" if bench.groups.get("g").home == "c1" else "c1"
    bench.groups.note(away, [report("x", sent_messages=9)])
    unknown = WorkerGroupReport(group="g", run="y", workers=(WorkerReport(rank=3, sent_messages=9),))
    stranger = WorkerGroupReport(group="nowhere", run="y", workers=(WorkerReport(rank=0, sent_messages=9),))
    bench.groups.note(bench.groups.get("g").home, [unknown, stranger])
    assert bench.groups.get("g").traffic.sent_messages == 0


def test_nobody_is_attached_to_a_home_that_is_dead(bench: Bench) -> None:
    bench.join("a")
    bench.groups.note("c1", [report("x", sent_messages=1)])
    assert bench.groups.get("g").attached == 1
    bench.registry.remove("c1")
    view = bench.groups.get("g")
    assert view.attached == 0 and view.members[0].traffic.state == "away" and view.traffic.sent_messages == 1


def test_what_is_kept_of_a_group_is_who_it_is_and_no_counts(bench: Bench) -> None:
    bench.join("a")
    bench.groups.note("c1", [report("x", sent_messages=1)])
    bench.join("b")
    (document,) = bench.state.find("worker_groups", order_by="name")
    assert document["members"] == [{"rank": 0, "client": "a"}, {"rank": 1, "client": "b"}]
    assert "traffic" not in document and "attached" not in document
