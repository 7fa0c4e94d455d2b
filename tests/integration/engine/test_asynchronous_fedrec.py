"""Federated Recency with commits after K updates: each is the mean of every client's latest model, wherever it is."""

import asyncio

import numpy as np
import pytest

from fedn.models.wire import decode
from fedn.plan.session import SessionPlan
from fedn.plan.settings import UpdateStoreSettings
from fedn.protocol.rest import CombinerHeartbeat
from tests.support.stage import ledger_of, stage

STEPS = {"a": (1.0, 10), "b": (4.0, 30), "c": (-2.0, 60)}
_STEP = {"name": "sgd", "options": {"learning_rate": 1.0, "momentum": 0.0}}
PLACES = {"a": "c1", "b": "c2", "c": "c1"}


class OneTurn(asyncio.Event):
    """Lets one pass each time that it is set."""

    async def wait(self):
        await super().wait()
        self.clear()


async def site(scene, name, combiner):
    step, examples = STEPS[name]
    made = await scene.site(name, combiner, step=step, examples=examples)
    made.answers = OneTurn()
    return made


async def three_sites(scene, options=lambda name: {}):
    for combiner in ("c1", "c2"):
        await scene.combiner(combiner, **options(combiner))
    for name, combiner in PLACES.items():
        await site(scene, name, combiner)
    await scene.attached(3)


async def started(scene, *, arrivals=1, more=None, **plan):
    options = {"arrivals": arrivals, **(more or {})}
    given = {
        "rule": "fedrec",
        "validate": False,
        "disconnect_grace_s": 0.2,
        "clients_required": 1,
        "scheduler": {"name": "asynchronous", "options": options},
        **plan,
    }
    return (await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(**given))).id


def entry_of(scene, index):
    return next((entry for entry in scene.tier1.trail.entries() if entry.round == index), None)


def state_of(scene, session, index, client):
    return ledger_of(scene.tier1, session, index).get(client, ("", ""))[0]


async def answer(scene, session, index, name):
    """Lets a client that works answer, and waits until the round's ledger or its commit has it."""
    await scene.until(lambda: scene.sites[name].asked > scene.sites[name].trained, f"{name} is asked")
    scene.sites[name].answers.set()
    await scene.until(
        lambda: state_of(scene, session, index, name) == "updated" or entry_of(scene, index) is not None,
        f"the update of {name} is in",
    )


async def play(scene, session, index, names):
    """These answer, one after the other, and make the commit: {client: round whose model its contribution is from}."""
    for name in names:
        await answer(scene, session, index, name)
    entry = await scene.until(lambda: entry_of(scene, index), f"commit {index}")
    return {part.client: part.base_index for model in entry.combiner_models for part in model.contributions}


def check_models(scene):
    """Each commit's model is the flat mean of what the trail says is in it."""
    models, bases = [], [0.0]
    for entry in scene.tier1.trail.entries()[1:]:
        parts = [part for model in entry.combiner_models for part in model.contributions]
        assert len({part.client for part in parts}) == len(parts)
        values = [bases[part.base_index] + STEPS[part.client][0] for part in parts]
        bases.append(float(np.average(values, weights=[STEPS[part.client][1] for part in parts])))
        models.append(decode(b"".join(scene.tier1.models.read(entry.model_id)))["w"][0])
    np.testing.assert_allclose(models, bases[1:], rtol=1e-6)
    assert scene.tier1.trail.verify().length == len(bases)


@pytest.mark.parametrize("plan", [{}, {"update_chain": ["delta", "int8"]}, {"server_optimizer": _STEP}])
def test_each_commit_is_the_mean_of_every_clients_latest_model(tmp_path, plan):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene)
            session = await started(scene, rounds=6, **plan)
            # c works on from the seed over three commits; then the others do while it is fast.
            assert await play(scene, session, 0, "a") == {"a": 0}
            assert await play(scene, session, 1, "b") == {"a": 0, "b": 0}
            assert await play(scene, session, 2, "a") == {"a": 1, "b": 0}
            assert await play(scene, session, 3, "c") == {"a": 1, "b": 0, "c": 0}
            assert await play(scene, session, 4, "c") == {"a": 1, "b": 0, "c": 4}
            assert await play(scene, session, 5, "b") == {"a": 1, "b": 2, "c": 4}
            done = await scene.ended(session)
            assert (done.state, done.rounds_done) == ("finished", 6), done.error
            check_models(scene)
            ledger = {entry.client: entry for entry in scene.tier1.sessions.round(session, 3).ledger}
            assert (ledger["c"].base_index, ledger["c"].staleness, ledger["c"].weight) == (0, 3, 60.0)
            for name in "ab":
                reason = ledger[name].reason
                assert reason.code == "passes_on" and reason.message.endswith("its update of an earlier round counts")
            kept = [combiner._updates for combiner in scene.combiners.values()]
            await scene.until(lambda: not any(one.statistics.entries for one in kept), "nothing is kept any more")

    asyncio.run(scenario())


def test_k_counts_new_updates_alone(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene)
            session = await started(scene, arrivals=2, rounds=3, clients_required=2)
            assert await play(scene, session, 0, "ab") == {"a": 0, "b": 0}
            await answer(scene, session, 1, "c")
            assert entry_of(scene, 1) is None and scene.tier1.sessions.get(session).rounds_done == 1
            assert await play(scene, session, 1, "a") == {"a": 1, "b": 0, "c": 0}
            assert await play(scene, session, 2, "bc") == {"a": 1, "b": 1, "c": 2}
            assert (await scene.ended(session)).state == "finished"
            check_models(scene)
            updated = [
                [name for name in STEPS if state_of(scene, session, index, name) == "updated"] for index in range(3)
            ]
            assert updated == [["a", "b"], ["a", "c"], ["b", "c"]]

    asyncio.run(scenario())


async def move(scene, name, combiner):
    await scene.sites[name].wire.close()
    await site(scene, name, combiner)
    await scene.until(lambda: scene.tier1.sessions.roster.combiner_of(name) == combiner, f"{name} is at {combiner}")


def places(scene, index):
    entry = entry_of(scene, index)
    return {part.client: model.combiner for model in entry.combiner_models for part in model.contributions}


def test_who_moves_counts_where_it_trains_next(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene)
            session = await started(scene, arrivals=2, rounds=4)
            assert await play(scene, session, 0, "ab") == {"a": 0, "b": 0}
            await scene.until(lambda: scene.sites["b"].asked == 2, "b works")
            # b leaves c2, where nobody is then; what it sent there counts no longer.
            await move(scene, "b", "c1")
            await scene.until(lambda: state_of(scene, session, 1, "b") == "disconnected", "its task at c2 is given up")
            assert await play(scene, session, 1, "ac") == {"a": 1, "c": 0}
            ledger = {entry.client: entry for entry in scene.tier1.sessions.round(session, 1).ledger}
            assert ledger["b"].state == "disconnected" and "counts no longer" in ledger["b"].reason.message
            assert await play(scene, session, 2, "ab") == {"a": 2, "b": 2, "c": 0}
            # a's update is at c1 when it moves: it counts there in this commit, and not in the next one.
            await answer(scene, session, 3, "a")
            await move(scene, "a", "c2")
            assert await play(scene, session, 3, "c") == {"a": 3, "b": 2, "c": 2}
            assert places(scene, 3) == {"a": "c1", "b": "c1", "c": "c1"}
            assert (await scene.ended(session)).state == "finished"
            check_models(scene)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_combiner_that_dies_counts_again_with_what_its_store_has(tmp_path, kind):
    def options(name):
        return {"updates": UpdateStoreSettings(kind=kind, path=tmp_path / "kept" / name if kind == "files" else None)}

    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene, options)
            session = await started(scene, rounds=5, max_attempts=9)
            assert await play(scene, session, 0, "b") == {"b": 0}
            assert await play(scene, session, 1, "c") == {"b": 0, "c": 0}
            await scene.until(lambda: scene.sites["b"].asked == 2, "b works at c2")
            await scene.combiners.pop("c2").stop()
            await scene.until(lambda: state_of(scene, session, 2, "b") == "disconnected", "c2 is given up")
            # The other combiner's mean counts on, and the session goes on without c2.
            assert await play(scene, session, 2, "a") == {"a": 0, "c": 0}
            await scene.combiner("c2", **options("c2"))
            await scene.sites["b"].wire.close()
            await site(scene, "b", "c2")
            await scene.attached(3)
            again = {"b": 0} if kind == "files" else {}
            assert await play(scene, session, 3, "c") == {"a": 0, "c": 2, **again}
            assert await play(scene, session, 4, "b") == {"a": 0, "b": 3, "c": 2}
            done = await scene.ended(session)
            assert (done.state, done.rounds_done) == ("finished", 5), done.error
            check_models(scene)

    asyncio.run(scenario())


def test_a_reducer_that_comes_back_counts_new_updates_and_old_ones_once(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene)
            session = await started(scene, arrivals=2, rounds=3)
            assert await play(scene, session, 0, "ab") == {"a": 0, "b": 0}
            await answer(scene, session, 1, "c")
            await scene.until(lambda: scene.sites["a"].asked == scene.sites["b"].asked == 2, "a and b work")
            await asyncio.to_thread(scene.tier1.stop)
            scene.sites["a"].answers.set()
            await scene.until(lambda: scene.sites["a"].trained == 2, "an update comes while the reducer is away")
            await asyncio.to_thread(scene.tier1.start)
            for name, combiner in scene.combiners.items():
                heartbeat = CombinerHeartbeat(instance=combiner.instance)
                await asyncio.to_thread(scene.tier1.registry.heartbeat, name, heartbeat)
            assert await play(scene, session, 1, "") == {"a": 1, "b": 0, "c": 0}
            assert await play(scene, session, 2, "bc") == {"a": 1, "b": 1, "c": 2}
            done = await scene.ended(session)
            assert (done.state, done.rounds_done) == ("finished", 3), done.error
            assert {name: one.trained for name, one in scene.sites.items()} == {"a": 2, "b": 2, "c": 2}
            check_models(scene)

    asyncio.run(scenario())


def test_a_combiner_that_keeps_no_updates_is_named(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene, lambda _: {"updates": UpdateStoreSettings(kind="off")})
            view = await scene.ended(await started(scene, rounds=1))
            assert view.state == "failed" and view.error.code == "updates_not_kept"

    asyncio.run(scenario())
