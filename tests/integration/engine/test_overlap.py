"""Rounds that overlap: one begins while the one before becomes durable, and each is committed once, after its parent.

The model is such that a single combiner's mean of it is the next global model as it is, unless a test says otherwise.
"""

import asyncio

import numpy as np
import pytest

from fedn.models.digest import digest
from fedn.models.wire import decode, encode
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import CombinerHeartbeat
from fedn.reducer.engine import commit
from fedn.reducer.engine.arrival import ModelArrival
from fedn.reducer.engine.part import PartLost, RoundPart
from fedn.reducer.engine.records import ROUNDS, SESSIONS, load_round, round_key, save_round
from fedn.reducer.engine.round_run import RoundRun
from fedn.stores.sqlite import SqliteStateStore
from tests.support.stage import ledger_of, stage


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A store that is away is asked again soon, and a round that failed is."""
    monkeypatch.setattr("fedn.reducer.engine.context._RETRY_S", (0.05,))
    monkeypatch.setattr("fedn.reducer.engine.setbacks._FIRST_PAUSE_S", 0.05)


class Turns:
    """Lets a site answer so many times, until `set` lets it answer as often as it is asked."""

    def __init__(self, count):
        self._left = asyncio.Semaphore(count)

    async def wait(self):
        await self._left.acquire()

    def set(self):
        for _ in range(100):
            self._left.release()


async def start(scene, **plan):
    return await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(**{"validate": False, **plan}))


async def restart(scene, while_down=lambda state: None):
    """Ends the reducer and starts it again; `while_down` changes what it finds: it had ended at another moment."""
    await asyncio.to_thread(scene.tier1.stop)
    scene.tier1.models.away = 0
    state = SqliteStateStore(scene.folder / "state.db")
    while_down(state)
    state.close()
    await asyncio.to_thread(scene.tier1.start)
    for name, combiner in scene.combiners.items():
        heartbeat = CombinerHeartbeat(instance=combiner.instance)
        await asyncio.to_thread(scene.tier1.registry.heartbeat, name, heartbeat)


def state_of(scene, session, index):
    return str(scene.tier1.sessions.round(session, index).state)


def rounds_of(scene):
    return [entry.round for entry in scene.tier1.trail.entries() if entry.round is not None]


async def trained(scene, site, times):
    await scene.until(lambda: site.trained == times, f"trained {times} times")


async def asked(scene, session, index, client="a"):
    await scene.until(
        lambda: ledger_of(scene.tier1, session, index).get(client, ("",))[0] == "training", f"round {index} runs"
    )


async def released(scene):
    await scene.until(lambda: not any(c.rounds for c in scene.combiners.values()), "the combiners let go")


async def overlapping(scene, *, rounds=3):
    """A session whose first round has its model, which the store does not take, while its second round runs."""
    await scene.combiner("c1")
    a = await scene.site("a", "c1")
    await scene.attached(1)
    a.answers = Turns(1)
    scene.tier1.models.away = 1_000_000
    view = await start(scene, rounds=rounds)
    await trained(scene, a, 1)
    await asked(scene, view.id, 1)
    return view, a


async def check_end(scene, session, a, *, rounds=3, trainings=3):
    done = await scene.ended(session)
    assert (done.state, done.rounds_done) == ("finished", rounds), done.error
    assert a.trained == trainings
    assert rounds_of(scene) == list(range(rounds))
    assert scene.tier1.trail.verify().length == rounds + 1
    np.testing.assert_allclose(scene.global_model()["w"], float(rounds))
    assert {state_of(scene, session, index) for index in range(rounds)} == {"committed"}
    assert {ledger_of(scene.tier1, session, index)["a"][0] for index in range(rounds)} == {"updated"}
    await released(scene)


def test_a_single_combiner_model_becomes_the_global_model_as_it_is(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1", step=1, examples=3)
            await scene.site("b", "c1", step=4, examples=1)
            await scene.attached(2)
            view = await scene.run(rounds=4, clients_required=2)
            assert (view.state, view.rounds_done) == ("finished", 4), view.error
            np.testing.assert_allclose(scene.global_model()["w"], 4 * 7 / 4, rtol=1e-6)
            for entry in scene.tier1.trail.entries()[1:]:
                assert [model.model_id for model in entry.combiner_models] == [entry.model_id]
            rounds = scene.tier1.sessions.rounds(view.id)
            assert [str(one.kind) for one in rounds] == ["train"] * 4 + ["validate"]
            assert set(rounds[0].times_ms) == {"waiting", "training", "collecting", "aggregation", "commit", "total"}
            ends = [one.ended_at for one in rounds]
            assert ends == sorted(ends)
            assert [one.base_model_id for one in rounds[1:]] == [one.model_id for one in rounds[:-1]]
            assert a.trained == 4
            await scene.until(lambda: scene.tier1.trail.count_validations(session=view.id) == 10, "all validations")
            await released(scene)

    asyncio.run(scenario())


@pytest.mark.parametrize("plain", [True, False])
def test_a_round_runs_while_its_parent_becomes_durable_but_does_not_close_before(tmp_path, plain):
    async def scenario():
        async with stage(tmp_path, plain=plain) as scene:
            view, a = await overlapping(scene)
            assert (state_of(scene, view.id, 0), state_of(scene, view.id, 1)) == ("aggregating", "running")
            assert rounds_of(scene) == []
            a.answers.set()
            await scene.until(lambda: ledger_of(scene.tier1, view.id, 1)["a"][0] == "updated", "round 1 has its update")
            # It has its model soon after; the round behind it would begin then.
            await asyncio.sleep(0.3)
            assert a.trained == 2
            assert rounds_of(scene) == []
            assert [one.index for one in scene.tier1.sessions.rounds(view.id)] == [0, 1]
            scene.tier1.models.away = 0
            await check_end(scene, view.id, a)

    asyncio.run(scenario())


@pytest.mark.parametrize("plain", [True, False])
def test_a_reducer_that_comes_back_goes_on_with_both_rounds(tmp_path, plain):
    async def scenario():
        async with stage(tmp_path, plain=plain) as scene:
            view, a = await overlapping(scene)
            await restart(scene)
            a.answers.set()
            await check_end(scene, view.id, a)
            assert [scene.tier1.sessions.round(view.id, index).attempt for index in range(3)] == [0, 0, 0]
            assert [entry.epoch for entry in scene.tier1.trail.entries()] == [1, 2, 2, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", [(0,), (1,), (0, 1)])
def test_a_round_that_began_and_was_not_written_down_any_more_is_found_at_its_combiner(tmp_path, lost):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            view, a = await overlapping(scene)

            def forget(state):
                for index in lost:
                    assert state.delete(ROUNDS, round_key(view.id, index))

            await restart(scene, forget)
            a.answers.set()
            await check_end(scene, view.id, a)
            assert [scene.tier1.sessions.round(view.id, index).attempt for index in range(3)] == [0, 0, 0]

    asyncio.run(scenario())


def test_a_round_that_was_not_begun_any_more_begins_after_the_restart(tmp_path):
    """The record is there, and StartRound never arrived."""

    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            view, a = await overlapping(scene)

            def as_if_never_told(state):
                record = load_round(state, view.id, 1)
                name = record.name.model_copy(update={"attempt": 7})
                save_round(state, record.model_copy(update={"name": name}))

            await restart(scene, as_if_never_told)
            a.answers.set()
            # The client goes on with the task, which has the same name; its combiner replaces the attempt.
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 3), done.error
            assert scene.tier1.sessions.round(view.id, 1).attempt == 7
            assert rounds_of(scene) == [0, 1, 2]
            await released(scene)

    asyncio.run(scenario())


@pytest.mark.parametrize("recorded", [True, False])
def test_a_reducer_that_ended_between_a_commit_and_all_else_commits_it_once(tmp_path, monkeypatch, recorded):
    """The entry of round 0 is in the trail; neither its record nor its combiner was told, and round 1 runs."""

    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            monkeypatch.setattr(RoundRun, "acknowledge", lambda run: None)
            a.answers = Turns(0)
            view = await start(scene, rounds=3)
            await asked(scene, view.id, 0)
            before = scene.tier1.sessions._live_round(view.id, 0)
            a.answers._left.release()
            await asked(scene, view.id, 1)
            await scene.until(lambda: rounds_of(scene) == [0], "round 0 is committed")
            assert scene.combiners["c1"].rounds == 2  # nobody acknowledged round 0
            monkeypatch.undo()
            monkeypatch.setattr("fedn.reducer.engine.context._RETRY_S", (0.05,))

            def forget_the_end(state):
                document = state.get(SESSIONS, view.id)
                state.put(SESSIONS, view.id, document | {"rounds_done": 0})
                save_round(state, before)
                if not recorded:
                    assert state.delete(ROUNDS, round_key(view.id, 1))

            await restart(scene, forget_the_end)
            a.answers.set()
            await check_end(scene, view.id, a)
            assert [entry.epoch for entry in scene.tier1.trail.entries()] == [1, 1, 2, 2]

    asyncio.run(scenario())


def spoil(monkeypatch, times):
    """The bytes of the first `times` downloads arrive changed."""
    take, left = ModelArrival.take, [times]

    def changed(self, offset, data):
        if not offset and left[0]:
            left[0] -= 1
            data = memoryview(bytes(data[:-1]) + bytes([data[-1] ^ 1]))
        take(self, offset, data)

    monkeypatch.setattr(ModelArrival, "take", changed)


def test_a_model_that_arrives_damaged_is_fetched_again_and_nobody_trains_again(tmp_path, monkeypatch):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            spoil(monkeypatch, 2)
            view = await start(scene, rounds=3)
            await check_end(scene, view.id, a)
            assert scene.tier1.sessions.round(view.id, 0).attempt == 0

    asyncio.run(scenario())


def test_a_model_that_never_arrives_whole_withdraws_the_next_round_and_is_tried_again(tmp_path, monkeypatch):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            spoil(monkeypatch, 3)
            view = await start(scene, rounds=3)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 3), done.error
            assert rounds_of(scene) == [0, 1, 2]
            assert scene.tier1.trail.verify().length == 4
            np.testing.assert_allclose(scene.global_model()["w"], 3.0)
            assert scene.tier1.sessions.round(view.id, 0).attempt == 1
            assert scene.tier1.sessions.round(view.id, 1).attempt == 1  # an attempt's name is never used twice
            failed = [event for event in scene.tier1.events.latest(200) if event.kind == "round_failed"]
            assert [(event.fields["round"], event.fields["attempt"]) for event in failed] == [(0, 0)]
            assert a.trained in {4, 5}
            await released(scene)

    asyncio.run(scenario())


def test_a_combiner_that_is_lost_with_its_model_makes_the_round_be_tried_again(tmp_path, monkeypatch):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            fetch, left = RoundPart.fetch, [1]

            async def lost(self, download):
                if left.pop() if left else 0:
                    raise PartLost("combiner_lost", "the combiner is gone")
                await fetch(self, download)

            monkeypatch.setattr(RoundPart, "fetch", lost)
            view = await start(scene, rounds=2)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2), done.error
            assert scene.tier1.sessions.round(view.id, 0).attempt == 1
            np.testing.assert_allclose(scene.global_model()["w"], 2.0)

    asyncio.run(scenario())


def test_a_round_whose_model_is_refused_each_time_fails_the_session_with_both_rounds_closed(tmp_path, monkeypatch):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            spoil(monkeypatch, 1_000)
            view = await start(scene, rounds=3, max_attempts=2)
            done = await scene.ended(view.id)
            assert (done.state, done.error.code, done.rounds_done) == ("failed", "round_failed", 0)
            assert (state_of(scene, view.id, 0), state_of(scene, view.id, 1)) == ("failed", "cancelled")
            assert scene.tier1.sessions.round(view.id, 1).error.code == "base_spoiled"
            assert rounds_of(scene) == []
            await released(scene)
            monkeypatch.undo()
            await asyncio.to_thread(scene.tier1.sessions.resume, view.id)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 3), done.error
            np.testing.assert_allclose(scene.global_model()["w"], 3.0)

    asyncio.run(scenario())


def test_another_head_in_the_trail_fails_the_session_and_ends_the_round_that_runs(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            view, a = await overlapping(scene)
            scene.tier1.models.away = 0
            other = encode({"w": np.full(5, 9, np.float32)})
            with scene.tier1.catalog.changing:  # the commit waits for this lock
                scene.tier1.models.put(digest(other), [other], len(other))
                scene.tier1.trail.append_seed(digest(other))
            done = await scene.ended(view.id)
            assert (done.state, done.error.code, done.rounds_done) == ("failed", "parent_not_head", 0)
            assert {state_of(scene, view.id, index) for index in (0, 1)} == {"cancelled"}
            await released(scene)
            a.answers.set()
            assert scene.tier1.trail.verify().length == 2

    asyncio.run(scenario())


def test_a_combiner_that_joins_gets_the_model_once_it_is_in_the_store(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            a.answers.clear()
            view = await start(scene, rounds=2)
            await asked(scene, view.id, 0)
            b = await scene.site("b", "c2", step=3.0)
            await scene.attached(2)
            scene.tier1.models.away = 1_000_000
            a.answers.set()
            # Round 1 has both clients, and c2 needs the model of round 0, which only c1 has.
            await scene.until(lambda: "b" in ledger_of(scene.tier1, view.id, 1), "round 1 asks b")
            await trained(scene, a, 2)
            assert b.trained == 0
            scene.tier1.models.away = 0
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2), done.error
            assert (a.trained, b.trained) == (2, 1)
            np.testing.assert_allclose(scene.global_model()["w"], 1 + (1 + 3) / 2)

    asyncio.run(scenario())


def test_combiner_models_are_kept_where_the_plan_says_so(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1")
            await scene.site("b", "c2", step=3.0)
            await scene.attached(2)
            view = await scene.run(rounds=2, clients_required=2, keep_combiner_models=True)
            assert view.state == "finished", view.error
            for entry in scene.tier1.trail.entries()[1:]:
                means = {
                    model.combiner: decode(b"".join(scene.tier1.models.read(model.model_id)))["w"][0]
                    for model in entry.combiner_models
                }
                base = decode(b"".join(scene.tier1.models.read(entry.parent)))["w"][0]
                assert means == {"c1": base + 1, "c2": base + 3}

    asyncio.run(scenario())


def test_small_models_are_added_up_at_once_and_large_ones_in_a_thread_alike(tmp_path, monkeypatch):
    async def scenario(at_once):
        monkeypatch.setattr(commit, "_AT_ONCE_BYTES", at_once)
        async with stage(tmp_path / str(at_once)) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1")
            await scene.site("b", "c2", step=3.0)
            await scene.attached(2)
            view = await scene.run(rounds=2, clients_required=2, validate=False)
            assert view.state == "finished", view.error
            return scene.tier1.trail.head().model_id

    for at_once in (0, 1 << 20):
        (tmp_path / str(at_once)).mkdir()
    assert asyncio.run(scenario(0)) == asyncio.run(scenario(1 << 20))
