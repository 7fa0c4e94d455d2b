"""Semi-synchronous sessions over real combiners: who is asked for how many steps, and where that can be read."""

import asyncio

from fedn.plan.session import SessionPlan
from tests.support.stage import ledger_of, stage


def plan(**options: object) -> dict[str, object]:
    return {"scheduler": {"name": "semi_synchronous", "options": options}, "validate": False}


def test_budgets_come_from_the_round_before_and_stand_in_the_record(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            fast = await scene.site("fast", "c1", ms_per_step=1.0, ms_per_epoch=20.0)
            slow = await scene.site("slow", "c2", ms_per_step=10.0, ms_per_epoch=200.0)
            await scene.attached(2)
            view = await scene.run(rounds=3, clients_required=2, **plan(**{"lambda": 0.5}))
            assert (view.state, view.rounds_done) == ("finished", 3), view.error
            assert (fast.budgets, slow.budgets) == ([0, 100, 100], [0, 10, 10])
            records = [scene.tier1.sessions.round(view.id, index) for index in range(3)]
            assert records[0].step_budgets is None
            budgets = records[1].step_budgets
            assert (budgets.window_ms, budgets.slowest) == (100.0, "slow")
            assert {name: (one.steps, one.ms_per_step) for name, one in budgets.clients.items()} == {
                "fast": (100, 1.0),
                "slow": (10, 10.0),
            }

    asyncio.run(scenario())


def test_a_client_that_joins_late_makes_its_own_epochs_first(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            first = await scene.site("first", "c1", ms_per_step=1.0, ms_per_epoch=20.0)
            await scene.attached(1)
            first.answers.clear()
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=3, **plan()))
            await scene.until(lambda: first.asked == 1, "the first round runs")
            late = await scene.site("late", "c1", ms_per_step=2.0, ms_per_epoch=80.0)
            await scene.attached(2)
            first.answers.set()
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            assert (first.budgets, late.budgets) == ([0, 20, 80], [0, 40])

    asyncio.run(scenario())


def test_an_update_that_lacks_its_times_is_refused_and_the_session_goes_on(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("good", "c1", ms_per_step=1.0, ms_per_epoch=20.0)
            await scene.site("mute", "c1", ms_per_step=1.0)
            await scene.attached(2)
            view = await scene.run(rounds=2, **plan())
            assert view.state == "finished", view.error
            assert ledger_of(scene.tier1, view.id, 0)["mute"] == ("refused", "update_lacks_metadata")
            entries = {entry.client: entry for entry in scene.tier1.sessions.round(view.id, 1).ledger}
            reason = entries["mute"].reason.message
            assert "ms_per_epoch" in reason and "the scheduler semi_synchronous" in reason

    asyncio.run(scenario())


def test_without_recompute_a_session_that_goes_on_keeps_its_first_budgets(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            site = await scene.site("a", "c1", ms_per_step=1.0, ms_per_epoch=20.0)
            await scene.attached(1)
            site.rests_after = 2
            wanted = SessionPlan(rounds=4, **plan(recompute=False))
            view = await asyncio.to_thread(scene.tier1.sessions.start, wanted)
            await scene.until(lambda: site.asked == 3, "the third round waits for its client")
            site.says["ms_per_step"] = 5.0
            await asyncio.to_thread(scene.tier1.sessions.stop, view.id)
            site.answers.set()
            await asyncio.to_thread(scene.tier1.sessions.resume, view.id)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 4), done.error
            assert site.budgets[:2] == [0, 20] and set(site.budgets[2:]) == {20}

    asyncio.run(scenario())
