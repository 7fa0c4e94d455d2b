"""Federated Recency over real combiners: the global model is the mean of each client's latest model, wherever it is."""

import asyncio

import numpy as np

from fedn.models.wire import decode
from tests.support.stage import ledger_of, stage

STEPS = {"a": (1.0, 10), "b": (4.0, 30), "c": (-2.0, 60)}


async def three_sites(scene, **options):
    await scene.combiner("c1", **options)
    await scene.combiner("c2", **options)
    for site, (step, examples) in STEPS.items():
        await scene.site(site, "c1" if site == "a" else "c2", step=step, examples=examples)
    await scene.attached(3)


def contributions(entry):
    return {part.client: part.weight for model in entry.combiner_models for part in model.contributions}


def history(scene, session):
    """By definition, from the trail alone: each round's global model, of each client's latest model."""
    entries = scene.tier1.trail.entries()
    latest, models = {}, [0.0]
    for entry in entries[1:]:
        for client, (state, _) in ledger_of(scene.tier1, session, entry.round).items():
            if state == "updated":
                step, examples = STEPS[client]
                latest[client] = models[-1] + step, examples
        counted = {client: latest[client] for client in contributions(entry)}
        values, weights = zip(*counted.values(), strict=True)
        models.append(float(np.average(values, weights=weights)))
    return models[1:]


def global_models(scene):
    return [
        float(decode(b"".join(scene.tier1.models.read(entry.model_id)))["w"][0])
        for entry in scene.tier1.trail.entries()[1:]
    ]


def test_partial_cohorts_over_two_combiners_give_the_mean_of_the_latest_models(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await three_sites(scene)
            view = await scene.run(rounds=6, clients_requested=1, seed=3, validate=False, rule="fedrec")
            assert view.state == "finished", view.error
            entries = scene.tier1.trail.entries()[1:]
            # One client trains in each round, and all that ever trained count.
            trained = set()
            for entry in entries:
                trained |= {c for c, (s, _) in ledger_of(scene.tier1, view.id, entry.round).items() if s == "updated"}
                assert set(contributions(entry)) == trained
            assert trained == set(STEPS)
            np.testing.assert_allclose(global_models(scene), history(scene, view.id), rtol=1e-6)

    asyncio.run(scenario())
