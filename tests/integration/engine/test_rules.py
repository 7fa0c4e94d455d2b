"""Plans that name a rule are aggregated by it, over two real combiners."""

import asyncio

import numpy as np
import pytest

from fedn.models.wire import encode
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidSettings
from fedn.protocol.rest import CombinerHeartbeat
from tests.support.stage import ledger_of, stage

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


FIVE = [1.0, 2.0, 4.0, 8.0, 1e6]
"""What the sites add; the last one is faulty."""


async def five_sites(scene, **kwargs):
    await scene.combiner("c1")
    await scene.combiner("c2")
    for number, step in enumerate(FIVE):
        await scene.site(f"site-{number}", "c1" if number < 2 else "c2", step=step, examples=10 + number, **kwargs)
    await scene.attached(5)


def geometric_median(points, weights):
    """On a line it is the weighted median."""
    order = np.argsort(points)
    below = np.cumsum(np.array(weights)[order])
    return float(np.array(points)[order][np.searchsorted(below, below[-1] / 2)])


def krum_of_five():
    # n - f - 2 = 2 neighbours: 1.0 has 1 + 9, 2.0 has 1 + 4, 4.0 has 4 + 9, 8.0 has 16 + 36.
    return 2.0


GLOBAL = [
    ({"name": "median"}, 4.0),
    ({"name": "trimmed_mean", "options": {"trim": 0.2}}, (2 + 4 + 8) / 3),
    ({"name": "krum", "options": {"byzantine": 1}}, krum_of_five()),
    ({"name": "geometric_median"}, geometric_median(FIVE, [10, 11, 12, 13, 14])),
]


@pytest.mark.parametrize(("rule", "expected"), GLOBAL)
@pytest.mark.parametrize("plain", [True, False])
def test_of_scope_global_the_rule_is_over_the_clients_of_all_combiners(tmp_path, rule, expected, plain):
    async def scenario():
        async with stage(tmp_path, plain=plain) as scene:
            await five_sites(scene)
            choice = {"name": rule["name"], "options": {**rule.get("options", {}), "scope": "global"}}
            view = await scene.run(rounds=2, clients_required=5, validate=False, rule=choice)
            assert view.state == "finished", view.error
            np.testing.assert_allclose(scene.global_model()["w"], 2 * expected, rtol=1e-6)
            if not plain:
                assert scene.global_model()["n"] == 2 * round(expected)
            head = scene.tier1.trail.head()
            assert sorted(len(model.contributions) for model in head.combiner_models) == [2, 3]
            assert scene.tier1.trail.verify().length == 3
            # Nothing of the updates is left.
            await scene.until(lambda: not any(c.rounds for c in scene.combiners.values()), "rounds are released")
            assert not list((scene.folder / "spool").iterdir())

    asyncio.run(scenario())


def test_of_scope_combiner_the_reducer_takes_the_weighted_mean_of_the_medians(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await five_sites(scene)
            choice = {"name": "median", "options": {"scope": "combiner"}}
            view = await scene.run(rounds=1, clients_required=5, validate=False, rule=choice)
            assert view.state == "finished", view.error
            expected = np.average([1.5, 8.0], weights=[10 + 11, 12 + 13 + 14])
            np.testing.assert_allclose(scene.global_model()["w"], expected, rtol=1e-6)

    asyncio.run(scenario())


def test_a_server_optimizer_goes_on_top_of_a_rule_over_all_clients(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await five_sites(scene)
            choice = {"name": "median", "options": {"scope": "global"}}
            optimizer = {"name": "sgd", "options": {"momentum": 0.5}}
            view = await scene.run(
                rounds=2, clients_required=5, validate=False, rule=choice, server_optimizer=optimizer
            )
            assert view.state == "finished", view.error
            np.testing.assert_allclose(scene.global_model()["w"], 4 + (0.5 * 4 + 4), rtol=1e-6)

    asyncio.run(scenario())


def test_too_few_updates_for_the_rule_fail_the_round_with_the_reason(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            choice = {"name": "krum", "options": {"scope": "combiner", "byzantine": 1}}
            view = await scene.run(rounds=1, max_attempts=1, validate=False, rule=choice)
            assert view.state == "failed"
            (entry,) = scene.tier1.sessions.round(view.id, 0).ledger
            assert entry.state == "refused" and "needs 5 updates" in entry.reason.message

    asyncio.run(scenario())


def test_updates_of_several_messages_each_are_forwarded_over_a_restart(tmp_path):
    """The reducer ends when both combiners have their updates; the next one fetches them from there."""

    async def scenario():
        async with stage(tmp_path, seeded=False) as scene:
            size = 700_000  # 2.8 MB: three messages an update
            seed = bytes(encode({"w": np.zeros(size, np.float32)}))
            await asyncio.to_thread(scene.tier1.catalog.add_seed, seed)
            await five_sites(scene)
            slow = scene.sites["site-4"]
            slow.answers.clear()
            plan = SessionPlan(
                rounds=1,
                clients_required=5,
                validate=False,
                rule={"name": "median", "options": {"scope": "global"}},
            )
            view = await asyncio.to_thread(scene.tier1.sessions.start, plan)
            await scene.until(
                lambda: [state for state, _ in ledger_of(scene.tier1, view.id, 0).values()].count("updated") == 4,
                "four updates are in",
            )
            await asyncio.to_thread(scene.tier1.stop)
            slow.answers.set()
            await asyncio.to_thread(scene.tier1.start)
            for name, combiner in scene.combiners.items():
                heartbeat = CombinerHeartbeat(instance=combiner.instance)
                await asyncio.to_thread(scene.tier1.registry.heartbeat, name, heartbeat)
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            np.testing.assert_allclose(scene.global_model()["w"], 4.0)
            assert [site.trained for site in scene.sites.values()] == [1] * 5

    asyncio.run(scenario())
