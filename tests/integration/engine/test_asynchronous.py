"""Asynchronous sessions over real combiners: commits after K arrivals, tasks that go on, staleness, restarts."""

import asyncio

import numpy as np

from tests.support.stage import stage


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
