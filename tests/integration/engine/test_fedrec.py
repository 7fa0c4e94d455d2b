"""Federated Recency over real combiners: the global model is the mean of each client's latest model, wherever it is."""

import asyncio

import numpy as np
import pytest

from fedn.models.wire import decode
from fedn.network.tokens import Role
from fedn.plan.session import SessionPlan
from fedn.plan.settings import UpdateStoreSettings
from fedn.protocol.errors import InvalidSettings
from tests.support import servers
from tests.support.stage import ledger_of, stage
from tests.support.tls_relay import TlsRelay
from tests.support.wire import Trust

STEPS = {"a": (1.0, 10), "b": (4.0, 30), "c": (-2.0, 60)}
PLACES = {"a": "c1", "b": "c2", "c": "c1"}
IN_TURN = {"name": "round_robin", "options": {"count": 1}}


class OneTurn(asyncio.Event):
    """Lets one pass each time that it is set."""

    async def wait(self):
        await super().wait()
        self.clear()


async def site(scene, name, combiner):
    step, examples = STEPS[name]
    made = await scene.site(name, combiner, step=step, examples=examples)
    made.answers = OneTurn()


async def three_sites(scene, options=lambda name: {}):
    """`options`: of each combiner, by its name."""
    for combiner in ("c1", "c2"):
        await scene.combiner(combiner, **options(combiner))
    for name, combiner in PLACES.items():
        await site(scene, name, combiner)
    await scene.attached(3)


async def started(scene, **plan):
    given = {"rule": "fedrec", "validate": False, "disconnect_grace_s": 0.2, "selection": IN_TURN, **plan}
    return (await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(**given))).id


async def asked(scene, session, index):
    """The clients that work in a round."""

    return await scene.until(lambda: at_work(scene, session, index), f"round {index} is at work")


def at_work(scene, session, index):
    """Those who train, once all do who were selected."""
    states = {name: state for name, (state, _) in ledger_of(scene.tier1, session, index).items()}
    return [name for name, state in states.items() if state == "training"] if "selected" not in states.values() else []


async def committed(scene, index):
    """Names of the clients whose updates count in a round."""

    def entry():
        return next((entry for entry in scene.tier1.trail.entries() if entry.round == index), None)

    found = await scene.until(entry, f"round {index} is committed")
    return "".join(sorted(part.client for model in found.combiner_models for part in model.contributions))


async def play(scene, session, index):
    """Whoever is asked in the round answers; names of those who count."""
    for name in await asked(scene, session, index):
        scene.sites[name].answers.set()
    return await committed(scene, index)


def by_definition(scene, session):
    """Each round's global model from the trail and the ledgers: the mean of the latest models of those who count."""
    latest, models = {}, [0.0]
    for entry in scene.tier1.trail.entries()[1:]:
        for client, (state, _) in ledger_of(scene.tier1, session, entry.round).items():
            if state == "updated":
                step, examples = STEPS[client]
                latest[client] = models[-1] + step, examples
        counted = [latest[part.client] for model in entry.combiner_models for part in model.contributions]
        values, weights = zip(*counted, strict=True)
        models.append(float(np.average(values, weights=weights)))
    return models[1:]


def check_models(scene, session):
    entries = scene.tier1.trail.entries()[1:]
    found = [decode(b"".join(scene.tier1.models.read(entry.model_id)))["w"][0] for entry in entries]
    np.testing.assert_allclose(found, by_definition(scene, session), rtol=1e-6)


def reason_of(scene, session, index, client):
    (entry,) = [e for e in scene.tier1.sessions.round(session, index).ledger if e.client == client]
    return entry.reason


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"update_chain": ["delta", "int8"]},
        {"deterministic": True},
        {"server_optimizer": {"name": "sgd", "options": {"learning_rate": 1.0, "momentum": 0.0}}},
    ],
)
def test_partial_cohorts_over_two_combiners_give_the_mean_of_the_latest_models(tmp_path, plan):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene)
            session = await started(scene, rounds=6, **plan)
            counted, trained = [], set()
            for index in range(6):
                counted.append(await play(scene, session, index))
                trained |= {c for c, (s, _) in ledger_of(scene.tier1, session, index).items() if s == "updated"}
                assert counted[-1] == "".join(sorted(trained))
            assert counted[2:] == ["abc"] * 4
            assert (await scene.ended(session)).state == "finished"
            check_models(scene, session)
            kept = [combiner._updates for combiner in scene.combiners.values()]
            await scene.until(lambda: not any(one.statistics.entries for one in kept), "nothing is kept any more")
            idle = next(name for name in STEPS if ledger_of(scene.tier1, session, 5)[name][0] == "not_selected")
            reason = reason_of(scene, session, 5, idle)
            assert reason.code == "not_in_cohort" and reason.message.endswith("its update of an earlier round counts")

    asyncio.run(scenario())


def test_who_moves_counts_where_it_trains_next_and_who_leaves_counts_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr("fedn.reducer.engine.roster.RETURN_S", 0.0)

    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene)
            everybody = {"selection": "all", "clients_required": 1}
            session = await started(scene, rounds=5, **everybody)
            assert await play(scene, session, 0) == "abc"
            # While round 1 is at work, b goes to the other combiner; there it is nobody's task.
            await asked(scene, session, 1)
            await scene.sites["b"].wire.close()
            await site(scene, "b", "c1")
            for name in "ac":
                scene.sites[name].answers.set()
            assert await committed(scene, 1) == "abc"  # it was at c2 when the round began
            # Round 2 asks it at c1, where it goes away again: what it sent to c2 counts no longer.
            await asked(scene, session, 2)
            await scene.sites["b"].wire.close()
            for name in "ac":
                scene.sites[name].answers.set()
            assert await committed(scene, 2) == "ac"
            assert "counts no longer" in reason_of(scene, session, 2, "b").message
            await asked(scene, session, 3)
            await site(scene, "b", "c1")
            await scene.attached(3)
            for name in "ac":
                scene.sites[name].answers.set()
            assert await committed(scene, 3) == "ac"
            assert await play(scene, session, 4) == "abc"
            head = scene.tier1.trail.head()
            places = {part.client: model.combiner for model in head.combiner_models for part in model.contributions}
            assert places == {"a": "c1", "b": "c1", "c": "c1"}
            check_models(scene, session)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["memory", "files", "redis"])
def test_a_restarted_combiner_has_what_its_store_has(tmp_path, kind, request):
    url = request.getfixturevalue("redis_url") if kind == "redis" else None

    def options(name):
        path = tmp_path / "kept" / name if kind == "files" else None
        return {"updates": UpdateStoreSettings(kind=kind, url=url, path=path)}

    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene, options)
            session = await started(scene, rounds=5, clients_required=1)
            for index in range(3):
                await play(scene, session, index)
            # Whoever is asked now is at work while the other combiner is restarted.
            (busy,) = await asked(scene, session, 3)
            other = {"c1": "c2", "c2": "c1"}[PLACES[busy]]
            await scene.combiners[other].stop()
            await scene.combiner(other, **options(other))
            moved = [name for name, place in PLACES.items() if place == other]
            for name in moved:
                await scene.sites[name].wire.close()
                await site(scene, name, other)
            await scene.attached(3)
            scene.sites[busy].answers.set()
            assert await committed(scene, 3) == "abc"  # what the combiner had told before
            (next_one,) = await asked(scene, session, 4)
            scene.sites[next_one].answers.set()
            counted = await committed(scene, 4)
            if kind == "memory":
                lost = [name for name in moved if name != next_one]
                assert counted == "".join(sorted(set("abc") - set(lost)))
                for name in lost:
                    assert "counts no longer" in reason_of(scene, session, 4, name).message
            else:
                assert counted == "abc"
            check_models(scene, session)

    asyncio.run(scenario())


def test_a_redis_that_is_killed_and_comes_back_empty_costs_contributions_and_wedges_nothing(tmp_path):
    """Over TLS and with a password, as in production."""
    trust = Trust(tmp_path / "redis-trust")
    files = trust.tls("redis", Role.COMBINER, hosts=["localhost"])
    paths = [tmp_path / name for name in ("redis.crt", "redis.key", "redis-ca.crt")]
    for path, pem in zip(paths, (files.certificate, files.key, trust.ca), strict=True):
        path.write_bytes(pem)

    async def scenario(first, relay, second):
        updates = UpdateStoreSettings(
            kind="redis", url=f"rediss://localhost:{relay.port}/0", password="for-this-test", ca_file=paths[2]
        )
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene, lambda _: {"updates": updates})
            session = await started(scene, rounds=7, max_attempts=50)
            for index in range(3):
                await play(scene, session, index)
            (busy,) = await asked(scene, session, 3)
            await asyncio.to_thread(first.kill)
            scene.sites[busy].answers.set()

            def refused():
                reason = reason_of(scene, session, 3, busy)
                return reason is not None and reason.code == "store_unavailable"

            await scene.until(refused, "the ledger says why the update does not count")
            relay.target_port = second.port
            await scene.until(lambda: busy in at_work(scene, session, 3), "it is asked again")
            scene.sites[busy].answers.set()
            # Where its combiner has noticed the loss, it counts alone; the other one has not needed its store.
            assert set(await committed(scene, 3)) == {busy} | {c for c in PLACES if PLACES[c] != PLACES[busy]}
            for index in range(4, 7):
                counted = await play(scene, session, index)
            assert counted == "abc"  # each has trained again
            assert (await scene.ended(session)).state == "finished"
            check_models(scene, session)

    with (
        servers.redis_server(tmp_path / "1", "for-this-test") as first,
        servers.redis_server(tmp_path / "2", "for-this-test") as second,
        TlsRelay(first.port, paths[0], paths[1]) as relay,
    ):
        asyncio.run(scenario(first, relay, second))


def test_what_cannot_work_is_refused_with_what_to_do(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene, lambda _: {"updates": UpdateStoreSettings(kind="off")})
            session = await started(scene, rounds=1)
            view = await scene.ended(session)
            assert view.state == "failed" and view.error.code == "updates_not_kept"
            assert "updates.kind" in view.error.fix
            with pytest.raises(InvalidSettings, match="too coarse"):
                await started(scene, rounds=1, sum_dtype="float32")

    asyncio.run(scenario())


def test_an_update_without_room_is_refused_and_the_clients_earlier_one_counts_on(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            # Room for one update at each combiner: c1's second client never gets in.
            await three_sites(scene, lambda _: {"updates": UpdateStoreSettings(kind="memory", max_bytes=150)})
            session = await started(scene, rounds=2, selection="all", clients_required=2)
            counted = [await play(scene, session, index) for index in range(2)]
            assert counted[0] == counted[1] and len(counted[0]) == 2
            (out,) = set("abc") - set(counted[0])
            assert ledger_of(scene.tier1, session, 1)[out] == ("refused", "update_store_full")
            check_models(scene, session)

    asyncio.run(scenario())
