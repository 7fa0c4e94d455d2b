"""Plans that choose a selector really choose by it, and the ledger says why a client was left out."""

import asyncio

import numpy as np

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import CombinerHeartbeat
from tests.support.stage import ledger_of, stage


def test_in_turn_everybody_works_once_and_the_turn_goes_on_after_a_restart(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            names = ["a", "b", "c", "d", "e"]
            for number, name in enumerate(names):
                await scene.site(name, "c1", step=10.0**number)
            await scene.attached(5)
            plan = {"validate": False, "selection": {"name": "round_robin", "options": {"count": 2}}}
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=50, **plan))
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done >= 1, "a round is done")
            for site in scene.sites.values():
                site.answers.clear()

            def trains() -> bool:
                latest = scene.tier1.sessions.rounds(view.id)[-1]
                return any(entry.state == "training" for entry in latest.ledger)

            await scene.until(trains, "a round is running")
            await asyncio.to_thread(scene.tier1.stop)
            for site in scene.sites.values():
                site.answers.set()
            await asyncio.to_thread(scene.tier1.start)
            (c1,) = scene.combiners.values()
            await asyncio.to_thread(scene.tier1.registry.heartbeat, "c1", CombinerHeartbeat(instance=c1.instance))
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            rounds = scene.tier1.sessions.rounds(view.id)
            asked = [client for one in rounds for client in one.cohort]
            assert sorted(asked) == sorted(names * 20)  # 50 rounds of 2
            reason = next(entry.reason for entry in rounds[0].ledger if entry.reason is not None)
            assert reason.code == "not_in_cohort" and "turn" in reason.message

    asyncio.run(scenario())


def test_clients_are_chosen_by_what_they_say_of_themselves(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", step=1.0, attributes={"region": "eu"})
            await scene.site("b", "c1", step=5.0, attributes={"region": "us"})
            await scene.attached(2)
            selection = {"name": "attributes", "options": {"where": {"region": "us"}}}
            view = await scene.run(rounds=1, validate=False, selection=selection)
            assert view.state == "finished", view.error
            np.testing.assert_allclose(scene.global_model()["w"], 5.0)
            assert ledger_of(scene.tier1, view.id, 0) == {"a": ("not_selected", "not_in_cohort"), "b": ("updated", "")}

    asyncio.run(scenario())


def test_a_round_waits_for_clients_that_the_selection_may_take(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", attributes={"region": "us"})
            await scene.attached(1)
            selection = {"name": "attributes", "options": {"where": {"region": "eu"}}}
            plan = SessionPlan(rounds=1, validate=False, selection=selection)
            view = await asyncio.to_thread(scene.tier1.sessions.start, plan)
            await scene.site("b", "c1", attributes={"region": "eu"})
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            assert scene.tier1.sessions.round(view.id, 0).cohort == ("b",)

            few = await scene.run(rounds=1, clients_required=2, wait_for_clients_s=0.2, selection=selection)
            assert few.state == "failed" and few.error.code == "too_few_clients"
            assert (
                "2 clients that can train are attached, of which the selection attributes takes 1" in few.error.message
            )

    asyncio.run(scenario())
