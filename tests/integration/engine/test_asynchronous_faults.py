"""Asynchronous sessions at the worst moment: links that break, a reducer that ends between two steps."""

import asyncio

import numpy as np
import pytest

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import CombinerRegistration
from fedn.protocol.rounds import LedgerState, RoundState
from fedn.reducer.engine.records import ROUNDS, load_round, round_key, save_round
from tests.integration.engine.test_asynchronous import counted, plan
from tests.integration.engine.test_engine_faults import released, restart
from tests.support.proxy import BreakingProxy
from tests.support.stage import stage
from tests.support.wire import make_combiner


@pytest.mark.parametrize("break_after_bytes", [2_500, 4_000])
def test_a_link_that_breaks_again_and_again_loses_no_update_and_counts_none_twice(tmp_path, break_after_bytes):
    async def scenario():
        async with stage(tmp_path) as scene:
            combiner = scene.combiners["c1"] = make_combiner(scene.trust, tmp_path / "c1", name="c1")
            await combiner.start()
            with BreakingProxy(combiner.port, break_after_bytes=break_after_bytes, times=6) as proxy:
                registration = CombinerRegistration(
                    name="c1", host="localhost", port=proxy.port, max_clients=9, instance=combiner.instance
                )
                await asyncio.to_thread(scene.tier1.registry.register, registration)
                sites = [await scene.site(name, "c1", step=1.0) for name in "ab"]
                await scene.attached(2)
                options = plan(arrivals=2, staleness={"name": "constant"})
                view = await scene.run(rounds=12, clients_required=2, max_attempts=20, **options)
                assert (view.state, view.rounds_done) == ("finished", 12), view.error
                assert proxy.breaks_left < 6
                updates = [len(counted(scene.tier1, view.id, index)) for index in range(12)]
                assert min(updates) >= 1
                np.testing.assert_allclose(scene.global_model()["w"], 12.0)
                # The last round's end gives up at the most one task of each.
                assert sum(updates) <= sum(site.trained for site in sites) <= sum(updates) + 2
                assert scene.tier1.trail.verify().length == 13

    asyncio.run(scenario())


def test_a_reducer_that_ended_right_after_a_commit_finds_it_and_what_is_under_way(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            fast = await scene.site("fast", "c1", step=1.0, examples=10)
            slow = await scene.site("slow", "c1", step=8.0, examples=30)
            await scene.attached(2)
            slow.answers.clear()
            fast.rests_after = 2
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=4, **plan()))
            await scene.until(lambda: fast.asked == 3, "two commits")

            def as_before_the_record_of_the_commit(state):
                record = load_round(state, view.id, 1)
                ledger = tuple(
                    entry.model_copy(update={"state": LedgerState.TRAINING, "update_id": "", "reason": None})
                    if entry.client == "fast"
                    else entry
                    for entry in record.ledger
                )
                opened = {"state": RoundState.RUNNING, "ledger": ledger, "combiner_models": (), "model_id": ""}
                save_round(state, record.model_copy(update=opened))
                state.delete(ROUNDS, round_key(view.id, 2))

            await restart(scene, as_before_the_record_of_the_commit)
            slow.rests_after = 1
            slow.answers.set()
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done == 3, "the slow one's commit")
            fast.answers.set()
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 4), done.error
            assert counted(scene.tier1, view.id, 1) == {"fast": (1, 0, 10.0)}
            assert counted(scene.tier1, view.id, 2) == {"slow": (0, 2, pytest.approx(30 / 3**0.5))}
            ((client, (base, staleness, _)),) = counted(scene.tier1, view.id, 3).items()
            assert (client, base, staleness) == ("fast", 2, 1)
            assert slow.trained == 1
            np.testing.assert_allclose(scene.global_model()["w"], 2.0 + 8.0 / 3**0.5 + 1.0 / 2**0.5, rtol=1e-6)
            await released(scene)

    asyncio.run(scenario())


def test_a_model_that_cannot_be_made_costs_the_updates_and_not_the_session(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            site = await scene.site("a", "c1", step=1e30)
            await scene.attached(1)
            site.rests_after = 2
            huge = {"name": "sgd", "options": {"learning_rate": 1e30}}
            wanted = SessionPlan(rounds=1, server_optimizer=huge, **plan())
            view = await asyncio.to_thread(scene.tier1.sessions.start, wanted)
            await scene.until(lambda: site.trained == 2, "it is asked again")
            site.step = 1e-30
            site.answers.set()
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 1), done.error
            assert scene.tier1.sessions.round(view.id, 0).attempt == 2
            np.testing.assert_allclose(scene.global_model()["w"], 1.0, rtol=1e-5)

    asyncio.run(scenario())
