"""Plans with a server optimizer: its state is on the trail, and outlives restarts, rollbacks and garbage collection."""

import asyncio

import numpy as np

from fedn.aggregation.optimizers.state import ServerState
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import CombinerHeartbeat
from fedn.reducer.engine.states import read_states
from tests.support.stage import stage

MOMENTUM = {"name": "sgd", "options": {"momentum": 0.5, "learning_rate": 1.0}}


def with_momentum(rounds: int, change: float = 2.5) -> float:
    """The weight after so many rounds from 0, where the mean of the updates is always `change` more than the model."""
    weight = velocity = 0.0
    for _ in range(rounds):
        velocity = 0.5 * velocity + change
        weight += velocity
    return weight


async def two_sites(scene):
    await scene.combiner("c1")
    await scene.combiner("c2")
    await scene.site("a", "c1", step=1, examples=10)
    await scene.site("b", "c2", step=3, examples=30)
    await scene.attached(2)


def test_momentum_goes_on_over_a_restart_in_the_middle(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await two_sites(scene)
            plan = SessionPlan(rounds=6, clients_required=2, validate=False, server_optimizer=MOMENTUM)
            view = await asyncio.to_thread(scene.tier1.sessions.start, plan)
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done >= 2, "two rounds are done")
            await asyncio.to_thread(scene.tier1.stop)
            await asyncio.to_thread(scene.tier1.start)
            for name, combiner in scene.combiners.items():
                heartbeat = CombinerHeartbeat(instance=combiner.instance)
                await asyncio.to_thread(scene.tier1.registry.heartbeat, name, heartbeat)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 6), done.error
            np.testing.assert_allclose(scene.global_model()["w"], with_momentum(6), rtol=1e-6)
            # Integers become the mean, as they do without an optimizer: 6 rounds of 2.5, halves to even.
            assert scene.global_model()["n"] == 2 + 2 + 2 + 2 + 2 + 2
            entries = scene.tier1.trail.entries()[1:]
            assert len({entry.state_id for entry in entries}) == 6
            for number, entry in enumerate(entries, 1):
                state = ServerState.read(read_states(scene.tier1.models, entry.state_id)["optimizer"].data)
                assert state.steps == number
            assert scene.tier1.trail.verify().length == 7

    asyncio.run(scenario())


def test_a_rollback_brings_the_state_of_its_model_back(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await two_sites(scene)
            plan = {"clients_required": 2, "validate": False, "server_optimizer": MOMENTUM}
            first = await scene.run(rounds=4, **plan)
            assert first.state == "finished", first.error
            entries = scene.tier1.trail.entries()
            after_two = entries[2]
            again = await scene.run(rounds=2, model_id=after_two.model_id, **plan)
            assert again.state == "finished", again.error
            kinds = [str(entry.kind) for entry in scene.tier1.trail.entries()]
            assert kinds == ["seed", *["round"] * 4, "rollback", *["round"] * 2]
            assert scene.tier1.trail.entries()[5].state_id == after_two.state_id
            # The same rounds from the same model and state give the same models.
            assert scene.tier1.trail.head().model_id == entries[4].model_id
            assert scene.tier1.trail.head().state_id == entries[4].state_id
            np.testing.assert_allclose(scene.global_model()["w"], with_momentum(4), rtol=1e-6)

            # Another optimizer begins anew, and without one there is no state.
            adam = {"name": "adam", "options": {"learning_rate": 0.5, "beta_1": 0.0}}
            other = await scene.run(rounds=1, **{**plan, "server_optimizer": adam})
            assert other.state == "finished", other.error
            state = ServerState.read(
                read_states(scene.tier1.models, scene.tier1.trail.head().state_id)["optimizer"].data
            )
            assert state.steps == 1
            plain = await scene.run(rounds=1, clients_required=2, validate=False)
            assert plain.state == "finished", plain.error
            assert scene.tier1.trail.head().state_id == ""

    asyncio.run(scenario())


def test_an_optimizer_that_diverges_fails_the_session_with_its_name(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await two_sites(scene)
            optimizer = {"name": "sgd", "options": {"learning_rate": 1e300}}
            view = await scene.run(rounds=1, max_attempts=1, validate=False, server_optimizer=optimizer)
            assert view.state == "failed"
            assert "learning_rate" in view.error.message
            assert len(scene.tier1.trail.entries()) == 1

    asyncio.run(scenario())
