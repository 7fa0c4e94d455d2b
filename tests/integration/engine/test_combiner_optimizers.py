"""Plans with an optimizer at each combiner: the reducer keeps their states, over the death of combiners and its own."""

import asyncio

import numpy as np

from fedn.aggregation.optimizers.state import ServerState
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import CombinerHeartbeat
from fedn.reducer.engine.states import read_states
from tests.support.stage import stage

MOMENTUM = {"name": "sgd", "options": {"momentum": 0.5, "learning_rate": 1.0}}
PLAN = {"clients_required": 2, "validate": False, "combiner_optimizer": MOMENTUM}


def reference(rounds, weight=0.0):
    """The weight after so many rounds: c1's client adds 1 (10 examples), c2's adds 3 (30 examples)."""
    velocity = {1.0: 0.0, 3.0: 0.0}
    for _ in range(rounds):
        for step in velocity:
            velocity[step] = 0.5 * velocity[step] + step
        weight += (10 * velocity[1.0] + 30 * velocity[3.0]) / 40
    return weight


async def two_sites(scene):
    await scene.combiner("c1")
    await scene.combiner("c2")
    await scene.site("a", "c1", step=1, examples=10)
    await scene.site("b", "c2", step=3, examples=30)
    await scene.attached(2)


def steps_of(scene):
    parts = read_states(scene.tier1.models, scene.tier1.trail.head().state_id)
    return {name: ServerState.read(part.data).steps for name, part in parts.items()}


def test_states_of_combiners_go_on_over_a_restart_of_the_reducer(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await two_sites(scene)
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=6, **PLAN))
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done >= 2, "two rounds are done")
            await asyncio.to_thread(scene.tier1.stop)
            await asyncio.to_thread(scene.tier1.start)
            for name, combiner in scene.combiners.items():
                heartbeat = CombinerHeartbeat(instance=combiner.instance)
                await asyncio.to_thread(scene.tier1.registry.heartbeat, name, heartbeat)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 6), done.error
            np.testing.assert_allclose(scene.global_model()["w"], reference(6), rtol=1e-6)
            assert scene.global_model()["n"] == 12  # halves to even, as without an optimizer
            assert steps_of(scene) == {"combiner/c1": 6, "combiner/c2": 6}

    asyncio.run(scenario())


def test_a_combiner_that_died_goes_on_from_the_state_that_the_reducer_kept(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await two_sites(scene)
            first = await scene.run(rounds=2, **PLAN)
            assert first.state == "finished", first.error
            # Another process of that name, which has nothing of what the first one knew.
            await scene.sites["a"].wire.close()
            await scene.combiners["c1"].stop()
            await scene.combiner("c1")
            await scene.site("a", "c1", step=1, examples=10)
            await scene.until(
                lambda: {c.client for c in scene.tier1.sessions.roster.snapshot()} == {"a", "b"}, "both are back"
            )
            again = await scene.run(rounds=2, **PLAN)
            assert again.state == "finished", again.error
            np.testing.assert_allclose(scene.global_model()["w"], reference(4), rtol=1e-6)
            assert steps_of(scene) == {"combiner/c1": 4, "combiner/c2": 4}

            # Both tiers at once: momentum at the combiners, half of the way at the reducer.
            before = scene.global_model()["w"].copy()
            half = {"name": "sgd", "options": {"momentum": 0.0, "learning_rate": 0.5}}
            both = await scene.run(rounds=1, server_optimizer=half, **PLAN)
            assert both.state == "finished", both.error
            np.testing.assert_allclose(scene.global_model()["w"] - before, (reference(5) - reference(4)) / 2, rtol=1e-5)

    asyncio.run(scenario())


def test_a_step_that_diverges_fails_the_round_with_its_name(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await two_sites(scene)
            optimizer = {"name": "sgd", "options": {"learning_rate": 1e300}}
            view = await scene.run(rounds=1, max_attempts=1, validate=False, combiner_optimizer=optimizer)
            assert view.state == "failed"
            (reason,) = {e.reason.message for e in scene.tier1.sessions.round(view.id, 0).ledger}
            assert "infinite or not a number" in reason
            assert len(scene.tier1.trail.entries()) == 1

    asyncio.run(scenario())
