"""Plans that name a rule are aggregated by it, over two real combiners."""

import asyncio

import numpy as np
import pytest

from fedn.protocol.errors import InvalidSettings
from tests.support.stage import stage

STEPS = {"a": (1.0, 10, 2), "b": (4.0, 30, 5), "c": (-2.0, 60, 1)}
"""Site to what it adds to each weight, its examples and its optimizer steps."""


async def three_sites(scene):
    await scene.combiner("c1")
    await scene.combiner("c2")
    for site, (step, examples, steps) in STEPS.items():
        await scene.site(site, "c1" if site == "a" else "c2", step=step, examples=examples, num_steps=steps)
    await scene.attached(3)


def nova(round_changes):
    step, examples, tau = (np.array(column) for column in zip(*STEPS.values(), strict=True))
    p = examples / examples.sum()
    return float((p @ tau) * (p * step / tau).sum()) * round_changes


def clipped(rounds):
    # The model has 5 weights: the norm of a step s of all is |s|·√5.
    step, examples, _ = (np.array(column) for column in zip(*STEPS.values(), strict=True))
    bound = 3.0
    each = step * np.minimum(1.0, bound / (np.abs(step) * 5**0.5))
    return float(np.average(each, weights=examples)) * rounds


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("fednova", nova(2)),
        ({"name": "norm_clipping", "options": {"max_norm": 3.0}}, clipped(2)),
        ({"name": "fedstride", "options": {"stride_length": 2}}, 2 * (10 * 1 + 30 * 4 - 60 * 2) / 100),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_two_rounds_over_two_combiners(tmp_path, rule, expected, plain):
    async def scenario():
        async with stage(tmp_path, plain=plain) as scene:
            await three_sites(scene)
            view = await scene.run(rounds=2, clients_required=3, validate=False, rule=rule)
            assert view.state == "finished", view.error
            np.testing.assert_allclose(scene.global_model()["w"], expected, rtol=1e-5)

    asyncio.run(scenario())


def test_fednova_refuses_an_update_without_steps_and_a_plain_mean(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            view = await scene.run(rounds=1, max_attempts=1, validate=False, rule="fednova")
            assert view.state == "failed"
            (entry,) = scene.tier1.sessions.round(view.id, 0).ledger
            assert entry.reason.code == "update_lacks_metadata" and "num_steps" in entry.reason.message
            with pytest.raises(InvalidSettings, match="reducer_mean"):
                await scene.run(rounds=1, rule="fednova", reducer_mean="plain")

    asyncio.run(scenario())
