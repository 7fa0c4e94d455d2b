"""The reducer's engine with real combiners over real gRPC and TLS; the clients are a few lines that the test steers."""

import asyncio

import numpy as np
import pytest

from fedn.models.wire import decode
from fedn.network.generated import common_pb2
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Conflict
from fedn.protocol.rest import CombinerHeartbeat
from fedn.protocol.rounds import RoundKind
from fedn.protocol.tasks import TaskKind
from tests.support.stage import KINDS, ledger_of, stage


def test_rounds_over_two_combiners_are_weighted_by_examples(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1", step=1, examples=100)
            await scene.site("b", "c2", step=4, examples=1)
            await scene.site("c", "c2", step=2, examples=7)
            await scene.site("eyes", "c1", kinds=[common_pb2.TASK_KIND_VALIDATE])
            await scene.attached(4)
            view = await scene.run(rounds=3, clients_required=3)
            assert (view.state, view.rounds_done) == ("finished", 3), view.error
            expected = 3 * (100 * 1 + 1 * 4 + 7 * 2) / 108
            np.testing.assert_allclose(scene.global_model()["w"], expected, rtol=1e-6)
            assert scene.global_model()["n"].dtype == np.int64
            tier1 = scene.tier1
            rounds = tier1.sessions.rounds(view.id)
            assert [str(r.kind) for r in rounds] == ["train"] * 3 + ["validate"]
            assert rounds[0].metrics == {"loss": pytest.approx((100 + 4 + 14) / 108)}
            assert set(rounds[0].times_ms) == {"waiting", "training", "collecting", "aggregation", "commit", "total"}
            await scene.until(lambda: tier1.trail.count_validations(session=view.id) == 16, "all validations")
            assert tier1.trail.verify().length == 4
            # Nothing is left at the combiners after the commits.
            await scene.until(lambda: not any(c.rounds for c in scene.combiners.values()), "rounds are released")

    asyncio.run(scenario())


def test_a_combiner_that_dies_is_left_out_of_the_round(tmp_path):
    async def scenario():
        async with stage(tmp_path, dead_after_s=2.0) as scene:
            await scene.combiner("c1")
            dying = await scene.combiner("c2")
            await scene.site("a", "c1")
            b = await scene.site("b", "c2", step=50)
            await scene.attached(2)
            b.answers.clear()
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=2, validate=False))
            await scene.until(
                lambda: ledger_of(scene.tier1, view.id, 0).get("b", ("",))[0] == "training", "b is training"
            )
            await scene.combiners.pop("c2").stop()
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            assert ledger_of(scene.tier1, view.id, 0)["b"][0] == "disconnected"
            np.testing.assert_allclose(scene.global_model()["w"], 2.0)
            assert dying.rounds == 0

    asyncio.run(scenario())


def test_a_round_without_quorum_is_tried_again_with_the_clients_that_are_left(tmp_path):
    async def scenario():
        async with stage(tmp_path, dead_after_s=2.0) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1")
            b = await scene.site("b", "c2")
            await scene.attached(2)
            b.answers.clear()
            plan = SessionPlan(rounds=1, clients_required=2, validate=False)
            view = await asyncio.to_thread(scene.tier1.sessions.start, plan)
            await scene.until(
                lambda: ledger_of(scene.tier1, view.id, 0).get("b", ("",))[0] == "training", "b is training"
            )
            await scene.combiners.pop("c2").stop()
            await b.wire.close()
            again = await scene.site("b", "c1")
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            assert scene.tier1.sessions.round(view.id, 0).attempt == 1
            assert again.trained == 1
            # What the first attempt took is accounted too.
            accounting = scene.tier1.sessions.accounting(view.id)
            assert [(each.attempts, each.usage.tasks, each.usage.updates) for each in accounting.rounds] == [(2, 4, 3)]
            assert {each.client: each.usage.tasks for each in accounting.clients} == {"a": 2, "b": 2}

    asyncio.run(scenario())


def test_a_reducer_that_comes_back_goes_on_with_the_round_that_runs(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            c1 = await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            a.answers.clear()
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=2))
            await scene.until(
                lambda: ledger_of(scene.tier1, view.id, 0).get("a", ("",))[0] == "training", "a is training"
            )
            await asyncio.to_thread(scene.tier1.stop)
            a.answers.set()
            await asyncio.to_thread(scene.tier1.start)
            await asyncio.to_thread(scene.tier1.registry.heartbeat, "c1", CombinerHeartbeat(instance=c1.instance))
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2), done.error
            assert a.trained == 2
            assert [e.epoch for e in scene.tier1.trail.entries()] == [1, 2, 2]
            assert scene.tier1.sessions.round(view.id, 0).attempt == 0
            assert scene.tier1.trail.verify().length == 3

    asyncio.run(scenario())


def test_the_round_waits_for_a_store_that_is_away(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            scene.tier1.models.away = 3
            view = await scene.run(rounds=2, validate=False)
            assert view.state == "finished", view.error
            assert a.trained == 2
            kinds = [event.kind for event in scene.tier1.events.latest(100)]
            assert kinds.count("store_unavailable") == kinds.count("store_back") == 1

    asyncio.run(scenario())


def test_stop_resume_and_only_one_session_at_a_time(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            a.answers.clear()
            sessions = scene.tier1.sessions
            view = await asyncio.to_thread(sessions.start, SessionPlan(rounds=2, validate=False))
            with pytest.raises(Conflict, match="running"):
                await asyncio.to_thread(sessions.start, SessionPlan())
            await scene.until(lambda: ledger_of(scene.tier1, view.id, 0).get("a", ("",))[0] == "training", "training")
            stopped = await asyncio.to_thread(sessions.stop, view.id)
            assert stopped.state == "stopped"
            assert str(sessions.round(view.id, 0).state) == "cancelled"
            with pytest.raises(Conflict, match="not running"):
                await asyncio.to_thread(sessions.stop, view.id)
            a.answers.set()
            await asyncio.to_thread(sessions.resume, view.id)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2)
            with pytest.raises(Conflict, match="finished"):
                await asyncio.to_thread(sessions.resume, view.id)

    asyncio.run(scenario())


def test_without_a_seed_a_client_is_asked_if_the_plan_says_so(tmp_path):
    async def scenario():
        async with stage(tmp_path, seeded=False) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", kinds=[*KINDS, common_pb2.TASK_KIND_INIT, common_pb2.TASK_KIND_PREDICT])
            await scene.attached(1)
            with pytest.raises(Conflict, match="no_seed_model"):
                await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan())
            view = await scene.run(rounds=1, seed_from_client=True)
            assert view.state == "finished", view.error
            np.testing.assert_allclose(scene.global_model()["w"], 2.0)
            view = await scene.run(RoundKind.PREDICT)
            assert view.state == "finished", view.error
            (found,) = scene.tier1.sessions.predictions(view.id)
            predicted = decode(b"".join(scene.tier1.models.read(found.object_id)))
            np.testing.assert_allclose(predicted["p"], 4.0)
            view = await scene.run(RoundKind.VALIDATE)
            assert view.state == "finished", view.error
            assert str(scene.tier1.sessions.rounds(view.id)[0].kind) == TaskKind.VALIDATE

    asyncio.run(scenario())


def test_too_few_clients_fail_the_session_with_what_to_do(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            view = await scene.run(rounds=1, clients_required=2, wait_for_clients_s=0.1)
            assert view.state == "failed"
            assert view.error.code == "too_few_clients"
            assert "1 clients" in view.error.message
            assert view.error.fix

    asyncio.run(scenario())


def test_a_plan_that_starts_from_an_older_model_rolls_back_to_it(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            seed = scene.tier1.trail.head().model_id
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            await scene.run(rounds=2, validate=False)
            await scene.run(rounds=1, validate=False, model_id=seed)
            np.testing.assert_allclose(scene.global_model()["w"], 1.0)
            kinds = [str(e.kind) for e in scene.tier1.trail.entries()]
            assert kinds == ["seed", "round", "round", "rollback", "round"]
            assert scene.tier1.trail.verify().length == 5

    asyncio.run(scenario())
