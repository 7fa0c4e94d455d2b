"""A request for a session that is sent twice, because nobody knows whether it arrived, starts one session."""

import asyncio

import pytest

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, Unavailable
from fedn.reducer.sessions import KEYS
from tests.support.stage import stage


def test_the_same_request_with_the_same_key_is_one_session(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            sessions = scene.tier1.sessions

            def start(key, rounds=1):
                return sessions.start(SessionPlan(rounds=rounds, validate=False), key=key)

            first, second = await asyncio.gather(*(asyncio.to_thread(start, "admin/k1") for _ in range(2)))
            assert first.id == second.id
            done = await scene.ended(first.id)
            assert done.state == "finished"
            again = await asyncio.to_thread(start, "admin/k1")
            assert (again.id, again.state) == (first.id, "finished")
            other = await asyncio.to_thread(start, "admin/k2")
            assert other.id != first.id
            await scene.ended(other.id)
            with pytest.raises(InvalidInput, match="idempotency_key_reused"):
                await asyncio.to_thread(start, "admin/k1", 2)
            assert sessions.count() == 2

    asyncio.run(scenario())


def test_a_key_whose_session_never_began_begins_it(tmp_path, monkeypatch):
    """The reducer ended after it had written the key down, and before the session began."""

    async def scenario():
        async with stage(tmp_path) as scene:
            await scene.combiner("c1")
            await scene.site("a", "c1")
            await scene.attached(1)
            sessions, plan = scene.tier1.sessions, SessionPlan(rounds=1, validate=False)

            def ends_before(*_):
                raise Unavailable("engine_busy", "the end")

            with monkeypatch.context() as patch:
                patch.setattr(sessions, "_start", ends_before)
                with pytest.raises(Unavailable):
                    sessions.start(plan, key="admin/k")
            assert sessions.count() == 0
            (noted,) = sessions._state.find(KEYS)
            view = await asyncio.to_thread(lambda: sessions.start(plan, key="admin/k"))
            assert view.id == noted["session"]
            await scene.ended(view.id)

    asyncio.run(scenario())
