"""Asynchronous sessions over real combiners: commits after K arrivals, tasks that go on over them, restarts."""

import asyncio

import numpy as np
import pytest

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import CombinerHeartbeat
from tests.support.stage import ledger_of, stage


def plan(**options: object) -> dict[str, object]:
    return {"scheduler": {"name": "asynchronous", "options": options}, "validate": False}


def counted(tier1, session, index):
    """Client to (base index, staleness, weight) of the updates that a round counted."""
    return {
        entry.client: (entry.base_index, entry.staleness, entry.weight)
        for entry in tier1.sessions.round(session, index).ledger
        if entry.state == "updated"
    }


def test_every_update_is_committed_and_n_rounds_are_n_commits(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            site = await scene.site("a", "c1", step=1.0)
            await scene.attached(1)
            view = await scene.run(rounds=4, **plan())
            assert (view.state, view.rounds_done) == ("finished", 4), view.error
            assert site.trained == 4
            np.testing.assert_allclose(scene.global_model()["w"], 4.0)
            assert scene.tier1.trail.verify().length == 5
            assert [counted(scene.tier1, view.id, index) for index in range(4)] == [
                {"a": (index, 0, 10.0)} for index in range(4)
            ]
            await scene.until(lambda: not any(c.rounds for c in scene.combiners.values()), "rounds are released")

    asyncio.run(scenario())


def reference(tier1, session, sites, rounds, rate=1.0, discount=lambda staleness: (1 + staleness) ** -0.5):
    """The models that flat FedBuff makes in float64 of the same updates in the same order."""
    models = [0.0]
    for index in range(rounds):
        found = counted(tier1, session, index)
        total = weights = 0.0
        for client, (base, staleness, _) in found.items():
            site = sites[client]
            assert staleness == index - base
            delta = (site.shrinks - 1.0) * models[base] + site.step
            total += site.examples * discount(staleness) * delta
            weights += site.examples
        models.append(models[-1] + rate * total / weights)
    return models


@pytest.mark.parametrize("options", [{}, {"learning_rate": 0.5, "staleness": {"name": "hinge", "a": 2.0, "b": 0.0}}])
def test_two_tiers_equal_flat_fedbuff_on_the_same_order_of_arrivals(tmp_path, options):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            sites = {
                "a": await scene.site("a", "c1", step=1.0, examples=3),
                "b": await scene.site("b", "c2", step=-2.0, examples=5),
                "c": await scene.site("c", "c2", step=4.0, examples=11),
                "d": await scene.site("d", "c1", step=0.5, examples=2),
            }
            for site in sites.values():
                site.shrinks = 0.75
            # Two of them are slow, and answer when others have gone on.
            sites["c"].answers.clear()
            sites["d"].answers.clear()
            sites["a"].rests_after, sites["b"].rests_after = 3, 4
            await scene.attached(4)
            wanted = SessionPlan(rounds=7, **plan(arrivals=2, **options))
            view = await asyncio.to_thread(scene.tier1.sessions.start, wanted)
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done >= 3, "three commits")
            sites["c"].answers.set()
            sites["d"].answers.set()
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done >= 4, "a slow one counts")
            for site in sites.values():
                site.rests_after = None
                site.answers.set()
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 7), done.error
            if options:
                models = reference(
                    scene.tier1, view.id, sites, 7, 0.5, lambda staleness: 1 / (2.0 * staleness + 1) if staleness else 1
                )
            else:
                models = reference(scene.tier1, view.id, sites, 7)
            np.testing.assert_allclose(scene.global_model()["w"], models[-1], rtol=1e-6)
            told = [one for index in range(7) for one in counted(scene.tier1, view.id, index).values()]
            assert max(staleness for _, staleness, _ in told) >= 3
            for entry in scene.tier1.trail.entries()[1:]:
                told = counted(scene.tier1, view.id, entry.round)
                parts = [
                    (part.client, model.base_index) for model in entry.combiner_models for part in model.contributions
                ]
                assert sorted(parts) == sorted((client, base) for client, (base, _, _) in told.items())
                assert len(parts) >= 2
            assert scene.tier1.trail.verify().length == 8

    asyncio.run(scenario())


def test_a_slow_client_is_passed_and_its_update_counts_with_its_staleness(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            fast = await scene.site("fast", "c1", step=1.0, examples=10)
            slow = await scene.site("slow", "c1", step=8.0, examples=30)
            await scene.attached(2)
            slow.answers.clear()
            fast.rests_after = 3
            wanted = SessionPlan(rounds=5, **plan())
            view = await asyncio.to_thread(scene.tier1.sessions.start, wanted)
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done == 3, "three commits")
            assert ledger_of(scene.tier1, view.id, 1)["slow"] == ("not_selected", "passes_on")
            slow.rests_after = 1
            slow.answers.set()
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done == 4, "the slow one's commit")
            assert counted(scene.tier1, view.id, 3) == {"slow": (0, 3, 30 * 0.5)}
            assert (fast.trained, slow.trained) == (3, 1)
            np.testing.assert_allclose(scene.global_model()["w"], 3.0 + 8.0 * 0.5)
            fast.answers.set()
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 5), done.error
            assert ledger_of(scene.tier1, view.id, 4)["slow"] == ("late", "session_over")
            usage = {each.client: each.usage for each in scene.tier1.sessions.accounting(view.id).clients}
            assert (usage["fast"].tasks, usage["fast"].updates) == (4, 4)
            assert (usage["slow"].tasks, usage["slow"].updates) == (2, 1)

    asyncio.run(scenario())


def test_an_update_that_would_be_too_stale_is_given_up_and_its_client_gets_the_latest_model(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            combiner = await scene.combiner("c1")
            fast = await scene.site("fast", "c1", step=1.0)
            slow = await scene.site("slow", "c1", step=100.0)
            await scene.attached(2)
            slow.answers.clear()
            fast.rests_after = 3
            wanted = SessionPlan(rounds=4, **plan(max_staleness=1))
            view = await asyncio.to_thread(scene.tier1.sessions.start, wanted)
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done == 3, "three commits")
            assert ledger_of(scene.tier1, view.id, 1)["slow"] == ("late", "update_too_stale")
            await scene.until(lambda: combiner.rounds <= 2, "at most max_staleness + 1 sums are held")
            slow.answers.set()
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 4), done.error
            ((client, (base, staleness, _)),) = counted(scene.tier1, view.id, 3).items()
            assert (client, base, staleness) == ("slow", 2, 1)

    asyncio.run(scenario())


def test_no_more_clients_work_at_once_than_the_plan_allows(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            sites = [await scene.site(name, "c1" if name < "c" else "c2") for name in "abcd"]
            await scene.attached(4)
            for site in sites:
                site.answers.clear()
            wanted = SessionPlan(rounds=4, **plan(arrivals=2, concurrency=2))
            view = await asyncio.to_thread(scene.tier1.sessions.start, wanted)
            await scene.until(lambda: sum(site.asked for site in sites) == 2, "two are asked")
            for site in sites:
                site.answers.set()
            done = await scene.ended(view.id)
            assert done.state == "finished", done.error
            # Two commits' worth of two updates each could only come of two clients at a time, each asked once a round.
            for index in range(4):
                record = scene.tier1.sessions.round(view.id, index)
                working = [e for e in record.ledger if e.state == "not_selected" and e.reason.code == "passes_on"]
                assert len(working) <= 2

    asyncio.run(scenario())


def test_a_reducer_that_comes_back_goes_on_with_what_is_under_way(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            c1 = await scene.combiner("c1")
            fast = await scene.site("fast", "c1", step=1.0, examples=10)
            slow = await scene.site("slow", "c1", step=8.0, examples=30)
            await scene.attached(2)
            slow.answers.clear()
            fast.rests_after = 2
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=4, **plan(arrivals=1)))
            await scene.until(lambda: fast.asked == 3, "two commits, and the third round's task is out")
            await asyncio.to_thread(scene.tier1.stop)
            slow.rests_after = 1
            slow.answers.set()
            await scene.until(lambda: slow.trained == 1, "its update comes while the reducer is away")
            await asyncio.to_thread(scene.tier1.start)
            await asyncio.to_thread(scene.tier1.registry.heartbeat, "c1", CombinerHeartbeat(instance=c1.instance))
            await scene.until(lambda: scene.tier1.sessions.get(view.id).rounds_done == 3, "the slow one's commit")
            assert counted(scene.tier1, view.id, 2) == {"slow": (0, 2, pytest.approx(30 / 3**0.5))}
            fast.answers.set()
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 4), done.error
            assert counted(scene.tier1, view.id, 3) == {"fast": (2, 1, pytest.approx(10 / 2**0.5))}
            assert fast.trained == 3
            np.testing.assert_allclose(scene.global_model()["w"], 2.0 + 8.0 / 3**0.5 + 1.0 / 2**0.5, rtol=1e-6)
            assert scene.tier1.trail.verify().length == 5

    asyncio.run(scenario())


def test_what_was_summed_before_a_restart_is_counted_once_after_it(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            c1 = await scene.combiner("c1")
            sites = {name: await scene.site(name, "c1", step=float(step)) for step, name in enumerate("abc", 1)}
            await scene.attached(3)
            sites["b"].answers.clear()
            sites["c"].answers.clear()
            view = await asyncio.to_thread(
                scene.tier1.sessions.start, SessionPlan(rounds=2, clients_required=3, **plan(arrivals=3))
            )
            await scene.until(lambda: ledger_of(scene.tier1, view.id, 0).get("a", ("",))[0] == "updated", "a is in")
            await asyncio.to_thread(scene.tier1.stop)
            await asyncio.to_thread(scene.tier1.start)
            await asyncio.to_thread(scene.tier1.registry.heartbeat, "c1", CombinerHeartbeat(instance=c1.instance))
            for site in sites.values():
                site.answers.set()
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 2), done.error
            assert [sorted(counted(scene.tier1, view.id, index)) for index in range(2)] == [["a", "b", "c"]] * 2
            assert {name: site.trained for name, site in sites.items()} == {"a": 2, "b": 2, "c": 2}
            np.testing.assert_allclose(scene.global_model()["w"], 4.0)

    asyncio.run(scenario())


def test_a_combiner_that_dies_takes_its_sums_along_and_nothing_else(tmp_path):
    async def scenario():
        async with stage(tmp_path, dead_after_s=2.0) as scene:
            await scene.combiner("c1")
            await scene.combiner("c2")
            a = await scene.site("a", "c1", step=1.0)
            b = await scene.site("b", "c2", step=50.0)
            c = await scene.site("c", "c2", step=50.0)
            await scene.attached(3)
            a.answers.clear()
            c.answers.clear()
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=2, **plan(arrivals=2)))
            await scene.until(lambda: ledger_of(scene.tier1, view.id, 0).get("b", ("",))[0] == "updated", "b is in")
            await scene.combiners.pop("c2").stop()
            await scene.until(
                lambda: ledger_of(scene.tier1, view.id, 0)["b"][0] == "disconnected", "its sum is known to be lost"
            )
            a.answers.set()
            done = await scene.ended(view.id)
            # Nobody else is there: what can come is committed, as it reaches the quorum.
            assert (done.state, done.rounds_done) == ("finished", 2), done.error
            assert ledger_of(scene.tier1, view.id, 0)["c"][0] == "disconnected"
            np.testing.assert_allclose(scene.global_model()["w"], 2.0)
            assert (b.trained, c.trained) == (1, 0)

    asyncio.run(scenario())


def test_each_client_validates_the_model_that_it_starts_from(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", step=1.0)
            await scene.attached(1)
            options = {**plan(), "validate": True}
            view = await scene.run(rounds=3, **options)
            assert view.state == "finished", view.error
            await scene.until(lambda: scene.tier1.trail.count_validations(session=view.id) == 4, "all validations")
            found = {
                entry.index: [one.metrics["mean"] for one in scene.tier1.trail.validations(entry_hash=entry.hash)]
                for entry in scene.tier1.trail.entries()
            }
            assert found == {0: [0.0], 1: [1.0], 2: [2.0], 3: [3.0]}

    asyncio.run(scenario())


def test_a_server_optimizer_takes_the_discounted_mean_for_its_step_and_keeps_its_state(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1", step=1.0)
            await scene.attached(1)
            momentum = {"name": "sgd", "options": {"learning_rate": 0.5, "momentum": 0.5}}
            view = await scene.run(rounds=3, server_optimizer=momentum, **plan())
            assert view.state == "finished", view.error
            velocity = model = 0.0
            for _ in range(3):
                velocity = 0.5 * velocity + 1.0
                model += 0.5 * velocity
            np.testing.assert_allclose(scene.global_model()["w"], model, rtol=1e-6)

    asyncio.run(scenario())


def test_a_client_that_fails_is_asked_again_in_the_next_attempt_and_the_session_ends_when_it_must(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            site = await scene.site("a", "c1", step=float("nan"))
            await scene.attached(1)
            view = await scene.run(rounds=1, max_attempts=2, **plan())
            assert (view.state, view.error.code) == ("failed", "round_failed")
            assert site.trained == 2
            assert ledger_of(scene.tier1, view.id, 0)["a"][0] == "refused"

    asyncio.run(scenario())


def test_a_session_that_is_stopped_goes_on_where_it_was(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            site = await scene.site("a", "c1", step=1.0)
            await scene.attached(1)
            site.rests_after = 2
            view = await asyncio.to_thread(scene.tier1.sessions.start, SessionPlan(rounds=4, **plan()))
            await scene.until(lambda: site.asked == 3, "two commits")
            await asyncio.to_thread(scene.tier1.sessions.stop, view.id)
            site.answers.set()
            await asyncio.to_thread(scene.tier1.sessions.resume, view.id)
            done = await scene.ended(view.id)
            assert (done.state, done.rounds_done) == ("finished", 4), done.error
            np.testing.assert_allclose(scene.global_model()["w"], 4.0)

    asyncio.run(scenario())
