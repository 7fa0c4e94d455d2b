"""The engine where things go wrong at the worst moment: between two steps of a round, of a stop, of a restart."""

import asyncio

import numpy as np
import pytest

from fedn.models.wire import encode
from fedn.network.generated import common_pb2
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Unavailable
from fedn.protocol.rest import CombinerHeartbeat
from fedn.protocol.rounds import LedgerState, RoundKind, RoundState
from fedn.reducer.engine.records import SESSIONS, load_round, save_round
from fedn.stores.sqlite import SqliteStateStore
from tests.support.stage import KINDS, ledger_of, stage


async def start(scene, **plan):
    return await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(**plan))


async def restart(scene, while_down=lambda state: None):
    """Ends the reducer and starts it again; `while_down` changes what it finds, as if it had ended a moment earlier."""
    await asyncio.to_thread(scene.tier1.stop)
    state = SqliteStateStore(scene.folder / "state.db")
    while_down(state)
    state.close()
    await asyncio.to_thread(scene.tier1.start)
    for name, combiner in scene.combiners.items():
        heartbeat = CombinerHeartbeat(instance=combiner.instance)
        await asyncio.to_thread(scene.tier1.registry.heartbeat, name, heartbeat)


async def training(scene, session, client):
    await scene.until(
        lambda: ledger_of(scene.tier1, session, 0).get(client, ("",))[0] == "training", f"{client} trains"
    )


async def released(scene):
    await scene.until(lambda: not any(c.rounds for c in scene.combiners.values()), "the combiners let go")


def test_a_reducer_that_ended_before_a_combiner_confirmed_the_start_costs_no_client_its_training(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            a, b = await scene.site("a", "c1"), await scene.site("b", "c2")
            await scene.attached(2)
            a.answers.clear()
            b.answers.clear()
            view = await start(scene, rounds=1, validate=False)
            await training(scene, view.id, "a")
            await training(scene, view.id, "b")

            def forget_confirmations(state):
                record = load_round(state, view.id, 0)
                save_round(state, record.model_copy(update={"instances": {}}))

            await restart(scene, forget_confirmations)
            a.answers.set()
            b.answers.set()
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            assert ledger_of(scene.tier1, view.id, 0) == {"a": ("updated", ""), "b": ("updated", "")}
            assert scene.tier1.sessions.round(view.id, 0).attempt == 0
            assert (a.trained, b.trained) == (1, 1)

    asyncio.run(scenario())


def test_a_reducer_that_ended_right_after_the_commit_finds_the_round_committed(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            view = await scene.run(rounds=2, validate=False)
            assert view.state == "finished", view.error

            def forget_the_end(state):
                document = state.get(SESSIONS, view.id)
                state.put(SESSIONS, view.id, document | {"state": "running", "rounds_done": 1, "ended_at": None})
                record = load_round(state, view.id, 1)
                open_entry = record.ledger[0].model_copy(
                    update={"state": LedgerState.SELECTED, "update_id": "", "metadata": None}
                )
                left = {"state": RoundState.RUNNING, "model_id": "", "combiner_models": (), "ledger": (open_entry,)}
                save_round(state, record.model_copy(update=left))

            await restart(scene, forget_the_end)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2)
            last = scene.tier1.sessions.round(view.id, 1)
            assert (str(last.state), last.model_id) == ("committed", scene.tier1.trail.head().model_id)
            assert ledger_of(scene.tier1, view.id, 1)["a"][0] == "updated"
            assert last.ledger[0].update_id
            assert a.trained == 2
            assert scene.tier1.trail.verify().length == 3

    asyncio.run(scenario())


def test_a_stop_while_the_commit_waits_for_its_store_ends_the_session_and_keeps_the_round(tmp_path, monkeypatch):
    monkeypatch.setattr("fedn.reducer.engine.context._RETRY_S", (0.05,))

    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            sessions = scene.tier1.sessions
            scene.tier1.models.away = 1_000_000
            view = await start(scene, rounds=2, validate=False)
            await scene.until(
                lambda: "store_unavailable" in {e.kind for e in scene.tier1.events.latest(100)}, "the store is away"
            )
            await scene.until(lambda: a.trained == 2, "round 1 has begun meanwhile")
            with monkeypatch.context() as patch:
                patch.setattr("fedn.reducer.engine.engine.CALL_TIMEOUT_S", 0.3)
                with pytest.raises(Unavailable, match="engine_busy"):
                    await asyncio.to_thread(sessions.stop, view.id)
            scene.tier1.models.away = 0
            stopped = await scene.ended(view.id)
            assert (stopped.state, stopped.rounds_done) == ("stopped", 1)
            assert str(sessions.round(view.id, 0).state) == "committed"
            assert str(sessions.round(view.id, 1).state) == "cancelled"
            await released(scene)
            await asyncio.to_thread(sessions.resume, view.id)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2)
            assert a.trained == 3
            assert [e.round for e in scene.tier1.trail.entries()] == [None, 0, 1]

    asyncio.run(scenario())


def test_a_stop_while_a_model_is_sent_leaves_the_link_as_it_is(tmp_path):
    async def scenario():
        async with stage(tmp_path, seeded=False) as scene:
            model = encode({"w": np.zeros(16 << 20, np.float32)})
            await asyncio.to_thread(scene.tier1.catalog.add_seed, bytes(model))
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            link = scene.tier1.engine._links["c1"]
            first = link.connection
            for _ in range(3):
                view = await start(scene, rounds=1, validate=False)
                await scene.until(lambda view=view: ledger_of(scene.tier1, view.id, 0), "the round begins")
                await asyncio.to_thread(scene.tier1.sessions.stop, view.id)
            assert link.connection is first
            await released(scene)

    asyncio.run(scenario())


def test_a_client_that_names_an_unknown_kind_of_task_does_not_cost_the_link(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("odd", "c1", kinds=[*KINDS, 99])
            await scene.site("a", "c1")
            await scene.attached(2)
            view = await scene.run(rounds=1, validate=False)
            assert view.state == "finished", view.error
            assert set(ledger_of(scene.tier1, view.id, 0)) == {"a", "odd"}

    asyncio.run(scenario())


def test_a_session_does_not_wait_for_validators_where_no_client_validates(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", kinds=[common_pb2.TASK_KIND_TRAIN])
            await scene.attached(1)
            view = await scene.run(rounds=1, wait_for_clients_s=3600)  # the test's own patience is much shorter
            assert view.state == "finished", view.error

    asyncio.run(scenario())


def test_validators_are_no_part_of_the_training_metrics(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1", step=2.0)
            eyes = await scene.site("eyes", "c1", kinds=[common_pb2.TASK_KIND_VALIDATE])

            async def answer(task):  # as a client's runtime does: its examples in num_examples
                await eyes.wire.answer(task, b"", metrics={"loss": 100.0}, num_examples=10)

            eyes._answer = answer
            await scene.attached(2)
            view = await scene.run(rounds=1)
            assert view.state == "finished", view.error
            assert scene.tier1.trail.head().metrics == {"loss": 2.0}
            rounds = scene.tier1.sessions.rounds(view.id)
            assert [str(r.kind) for r in rounds] == [RoundKind.TRAIN, RoundKind.VALIDATE]
            assert rounds[1].metrics["loss"] == 100.0
            assert a.trained == 1

    asyncio.run(scenario())
