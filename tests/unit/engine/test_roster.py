"""The roster knows who is attached where, and lets a round wait for clients."""

import asyncio
import time

from fedn.protocol.tasks import TaskKind
from fedn.reducer.engine import roster as module
from fedn.reducer.engine.roster import AttachedClient, Roster


def client(name: str, combiner: str = "c1", since: float = 1.0, kinds=(TaskKind.TRAIN,)) -> AttachedClient:
    return AttachedClient(name, combiner, frozenset(kinds), {}, since)


def make() -> tuple[Roster, list]:
    published: list = []
    return Roster(lambda kind, **fields: published.append((kind, fields["client"]))), published


def test_clients_come_and_go():
    async def scenario():
        roster, published = make()
        roster.attach(client("b"))
        roster.attach(client("a"))
        assert [one.client for one in roster.snapshot()] == ["a", "b"]
        roster.detach("a", "c2", "another combiner has no say")
        roster.detach("a", "c1", "left")
        assert [one.client for one in roster.snapshot()] == ["b"]
        assert published == [("client_attached", "b"), ("client_attached", "a"), ("client_detached", "a")]

    asyncio.run(scenario())


def test_of_two_combiners_the_later_stream_counts():
    async def scenario():
        roster, _ = make()
        assert roster.attach(client("a", "c1", since=1.0)) is None
        assert roster.attach(client("a", "c2", since=2.0)) == "c1"
        assert roster.attach(client("a", "c1", since=1.5)) == "c1"
        assert [one.combiner for one in roster.snapshot()] == ["c2"]

    asyncio.run(scenario())


def test_a_combiners_whole_list_replaces_what_was_known():
    async def scenario():
        roster, _ = make()
        roster.attach(client("a"))
        roster.attach(client("b", "c2", since=5.0))
        assert roster.replace_all("c1", [client("b", "c1", since=9.0), client("d")]) == [("b", "c2")]
        assert {one.client: one.combiner for one in roster.snapshot()} == {"b": "c1", "d": "c1"}

    asyncio.run(scenario())


def test_gather_waits_for_enough_able_clients():
    async def scenario():
        roster, _ = make()
        roster.attach(client("v", kinds=(TaskKind.VALIDATE,)))
        waiting = asyncio.create_task(roster.gather(TaskKind.TRAIN, 2, 60.0))
        await asyncio.sleep(0)
        roster.attach(client("a"))
        await asyncio.sleep(0)
        assert not waiting.done()
        roster.attach(client("b"))
        async with asyncio.timeout(30):
            assert sorted(await waiting) == ["a", "b"]

    asyncio.run(scenario())


def test_gather_gives_up_with_those_that_are_there():
    async def scenario():
        roster, _ = make()
        roster.attach(client("a"))
        assert list(await roster.gather(TaskKind.TRAIN, 5, 0.01)) == ["a"]

    asyncio.run(scenario())


def test_clients_of_a_lost_link_are_waited_for(monkeypatch):
    monkeypatch.setattr(module, "REATTACH_GRACE_S", 60.0)

    async def scenario():
        roster, _ = make()
        roster.attach(client("a", "c1"))
        roster.attach(client("b", "c2"))
        roster.link_lost("c1")
        waiting = asyncio.create_task(roster.gather(TaskKind.TRAIN, 1, 120.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        roster.attach(client("a", "c2", since=2.0))
        async with asyncio.timeout(30):
            assert sorted(await waiting) == ["a", "b"]

    asyncio.run(scenario())


def test_clients_of_a_lost_link_are_not_waited_for_longer_than_the_grace(monkeypatch):
    monkeypatch.setattr(module, "REATTACH_GRACE_S", 0.05)

    async def scenario():
        roster, _ = make()
        roster.attach(client("a", "c1"))
        roster.attach(client("b", "c2"))
        roster.link_lost("c1")
        started = time.monotonic()
        assert list(await roster.gather(TaskKind.TRAIN, 1, 600.0)) == ["b"]
        assert time.monotonic() - started < 300

    asyncio.run(scenario())


def test_counts_follow_who_comes_moves_and_goes():
    async def scenario():
        roster, _ = make()
        seen: list = []
        roster.on_attach(lambda client, combiner: seen.append((client, combiner)))
        roster.attach(client("a", "c1", since=1.0))
        roster.attach(client("b", "c1", since=1.0))
        roster.attach(client("a", "c2", since=2.0))
        assert roster.counts() == {"c1": 1, "c2": 1}
        assert (roster.combiner_of("a"), roster.combiner_of("z"), len(roster)) == ("c2", None, 2)
        roster.detach("b", "c1", "left")
        roster.link_lost("c2")
        assert not any(roster.counts().values())
        assert not roster.able(TaskKind.TRAIN)
        assert seen == [("a", "c1"), ("b", "c1"), ("a", "c2")]

    asyncio.run(scenario())


def test_each_that_comes_is_not_a_reason_to_look_at_all(monkeypatch):
    async def scenario():
        roster, _ = make()
        looks: list = []
        able = roster.able
        monkeypatch.setattr(roster, "able", lambda kind: looks.append(kind) or able(kind))
        waiting = asyncio.create_task(roster.gather(TaskKind.TRAIN, 500, 600.0))
        for number in range(500):
            roster.attach(client(f"c{number}"))
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            assert len(await waiting) == 500
        assert len(looks) == 1

    asyncio.run(scenario())


def test_of_two_lost_links_the_clients_of_the_later_are_waited_for_longest(monkeypatch):
    async def scenario():
        roster, _ = make()
        roster.attach(client("a", "c1"))
        roster.attach(client("b", "c2"))
        roster.attach(client("c", "c3"))
        monkeypatch.setattr(module, "REATTACH_GRACE_S", 0.05)
        roster.link_lost("c1")
        monkeypatch.setattr(module, "REATTACH_GRACE_S", 600.0)
        roster.link_lost("c2")
        waiting = asyncio.create_task(roster.gather(TaskKind.TRAIN, 1, 6000.0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        roster.attach(client("b", "c3", since=2.0))
        async with asyncio.timeout(30):
            assert sorted(await waiting) == ["b", "c"]

    asyncio.run(scenario())


def test_where_a_client_was_counts_for_a_moment(monkeypatch):
    async def scenario():
        roster, _ = make()
        for name in ("a", "b", "c"):
            roster.attach(client(name, "c1"))
        roster.detach("a", "c1", "left")
        assert (roster.left("a"), roster.left("b")) == ("c1", None)
        roster.attach(client("a", "c2", since=2.0))
        assert roster.left("a") is None
        monkeypatch.setattr(module, "RETURN_S", -1.0)
        roster.detach("b", "c1", "left")
        assert roster.left("b") is None
        roster.detach("c", "c1", "left")
        assert list(roster._left) == ["c"]  # and nothing is kept for ever

    asyncio.run(scenario())


def test_members_are_the_attached_and_those_that_left_a_moment_ago(monkeypatch):
    async def scenario():
        roster, _ = make()
        for name, combiner in (("b", "c1"), ("a", "c1"), ("c", "c2"), ("d", "c2")):
            roster.attach(client(name, combiner))
        assert roster.members(TaskKind.TRAIN) == {"c1": ["a", "b"], "c2": ["c", "d"]}
        roster.detach("a", "c1", "left")
        roster.attach(client("c", "c1", since=2.0))  # it moved: it is a member where it is now, and nowhere else
        assert roster.members(TaskKind.TRAIN) == {"c1": ["a", "b", "c"], "c2": ["d"]}
        monkeypatch.setattr(module, "RETURN_S", -1.0)
        roster.detach("d", "c2", "left")
        assert roster.members(TaskKind.TRAIN) == {"c1": ["a", "b", "c"]}

    asyncio.run(scenario())
