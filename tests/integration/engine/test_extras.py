"""A rule's extra state over real tiers: committed with the model, the same after restarts, and checked on arrival."""

import asyncio

import numpy as np
import pytest

from fedn.client.scaffold import EXTRA, KeptVariates, Scaffold
from fedn.models.wire import decode, encode
from fedn.plan.check import check_plan
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidSettings
from fedn.protocol.rest import CombinerHeartbeat
from fedn.protocol.tasks import Section
from fedn.reducer.engine.states import read_states
from tests.support.stage import Site, stage

RATE, STEPS = 0.1, 5
SITES = {"a": (10.0, 1.0), "b": (1.0, -5.0), "c": (3.0, 2.0)}
"""Curvature and minimum of each site's loss."""
OPTIMUM = sum(curvature * minimum for curvature, minimum in SITES.values()) / sum(one for one, _ in SITES.values())


class Descends(Site):
    """A site that does SCAFFOLD on its own loss, a/2·(w − m)², with the bytes of the wire as a client has them."""

    folder = None
    breaks = None
    """What it sends instead of a change."""

    async def _answer(self, task):
        if not task.extras:
            return await super()._answer(task)
        curvature, minimum = SITES[self.wire.name]
        brought = bytes(self.wire.objects[task.input_id])
        at = len(brought) - task.extras[0].size_bytes
        model, server = decode(brought[:at]), decode(brought[at:])
        self.trained += 1
        last = task.counted - 1 if task.counted else None
        kept = KeptVariates(self.folder / self.wire.name, task.round.session, task.round.index, last)
        scaffold = Scaffold(model, server, kept)
        w = model["w"].astype(np.float64)
        for _ in range(STEPS):
            w -= RATE * (curvature * (w - minimum) + scaffold.gradients()[list(model).index("w")])
        extra = scaffold.finish({**model, "w": w}, num_steps=STEPS, learning_rate=RATE)[EXTRA]
        section = bytes(encode(extra)) if self.breaks is None else self.breaks
        update = bytes(encode({**model, "w": w.astype(np.float32)})) + section
        extras = (Section(name=EXTRA, size_bytes=len(section)),) if section else ()
        return await self.wire.answer(task, update, num_examples=1, extras=extras)


async def three_sites(scene, tmp_path):
    await scene.combiner("c1")
    await scene.combiner("c2")
    for name, combiner in {"a": "c1", "b": "c2", "c": "c2"}.items():
        site = await scene.site(name, combiner)
        site.__class__, site.folder = Descends, tmp_path / "sites"
    await scene.attached(3)


def flat(rounds):
    """Algorithm 1 in float64: (x, c) after so many rounds of all sites."""
    x, c, own = 0.0, 0.0, dict.fromkeys(SITES, 0.0)
    for _ in range(rounds):
        ends, changes = [], []
        for name, (curvature, minimum) in SITES.items():
            y = x
            for _ in range(STEPS):
                y -= RATE * (curvature * (y - minimum) - own[name] + c)
            changes.append((x - y) / (STEPS * RATE) - c)
            ends.append(y)
        own = {name: own[name] + change for name, change in zip(own, changes, strict=True)}
        x, c = float(np.mean(ends)), c + float(np.mean(changes))
    return x, c


def control_variate(scene):
    return decode(read_states(scene.tier1.models, scene.tier1.trail.head().state_id)[f"extra/{EXTRA}"].data)


def test_scaffold_goes_on_over_a_restart_in_the_middle_and_finds_the_optimum(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await three_sites(scene, tmp_path)
            plan = SessionPlan(rounds=40, clients_required=3, rule="scaffold")
            view = await asyncio.to_thread(scene.tier1.sessions.start, plan)
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done >= 2, "two rounds are done")
            await asyncio.to_thread(scene.tier1.stop)
            await asyncio.to_thread(scene.tier1.start)
            for name, combiner in scene.combiners.items():
                heartbeat = CombinerHeartbeat(instance=combiner.instance)
                await asyncio.to_thread(scene.tier1.registry.heartbeat, name, heartbeat)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 40), done.error
            x, c = flat(40)
            np.testing.assert_allclose(scene.global_model()["w"], x, rtol=1e-5)
            np.testing.assert_allclose(control_variate(scene)["w"], c, atol=1e-4)
            assert x == pytest.approx(OPTIMUM, abs=1e-2)  # which the mean of the sites' own minima is not
            assert scene.tier1.trail.verify().length == 41

            # The next session's clients have no control variates yet: its own is fresh too.
            again = await scene.run(rounds=1, clients_required=3, rule="scaffold", validate=False)
            assert again.state == "finished", again.error
            gradients = [curvature * (OPTIMUM - minimum) for curvature, minimum in SITES.values()]
            assert np.abs(control_variate(scene)["w"]).max() < np.abs(gradients).max()

    asyncio.run(scenario())


def test_an_update_with_another_extra_state_is_refused_and_its_control_variate_not_gone_on_from(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await three_sites(scene, tmp_path)
            breaks = [
                (b"", "update_other_extras"),
                (bytes(encode({"w": np.full(5, np.nan, np.float32)})), "update_not_finite"),
                (bytes(encode({"w": np.zeros(4, np.float32)})), "update_does_not_fit"),
                (b"no tensors at all", "update_does_not_fit"),
            ]
            for section, code in breaks:
                scene.sites["a"].breaks = section
                view = await scene.run(rounds=1, clients_required=2, rule="scaffold", validate=False)
                assert view.state == "finished", view.error
                ledger = scene.tier1.sessions.round(view.id, 0).ledger
                reason = next(entry.reason for entry in ledger if entry.client == "a")
                assert reason.code in {code, "bad_model"}
                counted = read_states(scene.tier1.models, scene.tier1.trail.head().state_id)["counted"].data
                assert counted == b'{"b":0,"c":0}'

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"update_chain": ["zstd"]}, "update_chain"),
        ({"model_chain": ["bfloat16"]}, "model_chain"),
        ({"keep_combiner_models": True}, "keep_combiner_models"),
    ],
)
def test_what_extra_state_cannot_go_through_is_refused_in_the_plan(plan, field):
    with pytest.raises(InvalidSettings) as caught:
        check_plan(SessionPlan(rule="scaffold", **plan))
    assert [problem.where["field"] for problem in caught.value.problems] == [field]
