"""Sessions that end before all their rounds are done: by a metric, or by the clock."""

import asyncio

import pytest

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import round_statistics, session_statistics
from tests.support.stage import stage


def statistics_of(scene, session):
    return session_statistics(scene.tier1.sessions.get(session), scene.tier1.sessions.rounds(session))


@pytest.mark.parametrize("scheduler", ["synchronous", "asynchronous"])
@pytest.mark.parametrize(("step", "mode", "cutoff"), [(1.0, "max", 2.0), (-1.0, "min", -2.0)])
def test_a_session_ends_when_a_model_is_good_enough(tmp_path, scheduler, step, mode, cutoff):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", step=step)
            await scene.attached(1)
            stop_at = {"metric": "mean", "cutoff": cutoff, "mode": mode}
            view = await scene.run(rounds=50, scheduler=scheduler, stop_at=stop_at)
            # The mean grows by a step a round: the model of the second round is good enough, as the third one finds.
            assert (view.state, view.rounds_done, view.ended_because.code) == ("finished", 3, "metric_reached")
            assert f"round 3 started from a model with mean {cutoff:g}" in view.ended_because.message
            found = statistics_of(scene, view.id)
            assert (found.rounds_asked, found.aggregations, found.evaluations) == (50, 3, 3)
            assert all(part.memory_bytes > 1e6 for one in found.rounds for part in one.combiners)
            assert [model.metrics["mean"] for model in found.models] == [0, step, 2 * step, 3 * step]

    asyncio.run(scenario())


def test_a_metric_that_no_client_says_is_told_at_once(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            view = await scene.run(rounds=50, stop_at={"metric": "acuracy", "cutoff": 0.9})
            assert (view.state, view.rounds_done, view.error.code) == ("failed", 0, "metric_missing")
            assert "they say mean" in view.error.message

    asyncio.run(scenario())


def test_a_session_ends_when_its_time_is_over_and_keeps_what_is_done(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            a = await scene.site("a", "c1")
            await scene.attached(1)
            a.answers.clear()
            plan = SessionPlan(rounds=50, stop_after_s=4.0)
            view = await asyncio.to_thread(scene.tier1.sessions.start, plan)
            done = await scene.ended(view.id)
            assert a.asked == 1
            assert (done.state, done.rounds_done, done.ended_because.code) == ("finished", 0, "duration_reached")
            assert done.ended_at - done.created_at >= 4.0
            assert scene.tier1.sessions.round(view.id, 0).state == "cancelled"
            assert scene.tier1.trail.verify().length == 1
            # The next session finds everything in order.
            a.answers.set()
            view = await scene.run(rounds=2, stop_after_s=300.0)
            assert (view.state, view.rounds_done, view.ended_because.code) == ("finished", 2, "all_rounds_done")

    asyncio.run(scenario())


def test_every_round_asked_for_is_aggregated_and_evaluated_once(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1", examples=30)
            await scene.site("b", "c2", examples=10)
            await scene.attached(2)
            view = await scene.run(rounds=4, clients_required=2)
            found = statistics_of(scene, view.id)
            assert (found.rounds_asked, found.aggregations, found.evaluations) == (4, 4, 4)
            assert [model.made_in_round for model in found.models] == [None, 0, 1, 2, 3]
            assert [model.clients for model in found.models] == [2] * 5
            assert {one.client: (one.rounds, one.updates) for one in found.clients} == {"a": (5, 4), "b": (5, 4)}
            for each in found.rounds[:4]:
                assert [part.updates for part in each.combiners] == [1, 1]
                assert 0 <= each.dispatch_ms <= each.round_ms
                assert each.round_ms >= each.training_ms + each.aggregation_ms
            shares = {one.client: one.share for one in round_statistics(scene.tier1.sessions.round(view.id, 0)).clients}
            assert shares == {"a": 0.75, "b": 0.25}

    asyncio.run(scenario())
