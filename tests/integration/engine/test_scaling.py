"""Plans that choose a scaling factor weigh by it over both tiers, and say which metadata a client left out."""

import asyncio

import numpy as np
import pytest

from tests.support.stage import ledger_of, stage


@pytest.mark.parametrize(
    ("factor", "weights"),
    [("NumTrainingExamples", (100, 1, 7)), ("NumCompletedBatches", (2, 3, 5)), ("NumParticipants", (1, 1, 1))],
)
def test_updates_weigh_what_the_plan_says(tmp_path, factor, weights):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            await scene.site("a", "c1", step=1, examples=100, num_steps=2)
            await scene.site("b", "c2", step=4, examples=1, num_steps=3)
            await scene.site("c", "c2", step=2, examples=7, num_steps=5)
            await scene.attached(3)
            view = await scene.run(rounds=1, clients_required=3, validate=False, scaling_factor=factor)
            assert view.state == "finished", view.error
            expected = np.average([1, 4, 2], weights=weights)
            np.testing.assert_allclose(scene.global_model()["w"], expected, rtol=1e-6)
            models = scene.tier1.trail.head().combiner_models
            contributed = {part.client: part.weight for model in models for part in model.contributions}
            assert contributed == dict(zip("abc", map(float, weights), strict=True))

    asyncio.run(scenario())


def test_an_update_without_the_metadata_is_refused_and_the_ledger_names_the_key(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", step=1, num_steps=3)
            await scene.site("b", "c1", step=50)
            await scene.attached(2)
            view = await scene.run(rounds=1, validate=False, scaling_factor="NumCompletedBatches")
            assert view.state == "finished", view.error
            np.testing.assert_allclose(scene.global_model()["w"], 1.0)
            assert ledger_of(scene.tier1, view.id, 0)["b"] == ("refused", "update_lacks_metadata")
            (entry,) = [one for one in scene.tier1.sessions.round(view.id, 0).ledger if one.client == "b"]
            assert "num_steps" in entry.reason.message and "NumCompletedBatches" in entry.reason.message

    asyncio.run(scenario())
