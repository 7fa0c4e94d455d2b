"""How a client comes back: cut streams, interrupted transfers, other combiners, tokens, farewells."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from fedn.client.agent import ClientAgent
from fedn.client.attachment import SaidBye
from fedn.models.digest import digest
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import Forbidden, IntegrityError
from tests.integration.client.conftest import attached, model_of, running
from tests.integration.client.stand_ins import FakeReducer, Place
from tests.support.fake_combiner import PACKAGE, PATIENCE_S, FakeCombiner, round_name, train_task

MakeSettings = Callable[..., ClientSettings]
SMALL, SMALL_BYTES = model_of(np.arange(4, dtype=np.float32))
LARGE, LARGE_BYTES = model_of(np.arange(2_000_000, dtype=np.float32))


def test_enrols_once_and_keeps_its_identity(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def once() -> str:
        async with attached(reducer, settings()) as (stream, _, _):
            return stream.hello.instance

    assert asyncio.run(once()) != asyncio.run(once())
    assert reducer.enrolments == 1


def test_enrols_again_before_its_certificate_ends(reducer: FakeReducer, settings: MakeSettings) -> None:
    reducer.valid_days = 1

    async def once() -> None:
        async with attached(reducer, settings()):
            pass

    asyncio.run(once())
    asyncio.run(once())
    assert reducer.enrolments == 2


def test_cut_stream_is_opened_again_and_the_result_delivered_without_training(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, combiner, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL), round_name())
            await stream.expect("ready")
            stream.cut()
            again = await combiner.attached()
            assert list(again.hello.held_objects) == [SMALL]
            assert list(again.hello.spooled_tasks) == ["t1"]
            await again.task(train_task("alice", SMALL), round_name())
            await again.take("t1")
        assert len(reducer.asked) == 1  # a short cut needs no new assignment

    asyncio.run(scenario())
    assert (mine.data_dir / "work" / "trained").read_text().split() == ["t1"]


def test_task_goes_on_while_the_combiner_is_away(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, combiner, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL, parameters={"step": "wait"}), round_name())
            await stream.expect("task_progress", skip=["task_accepted"])
            await combiner.stop()
            (mine.data_dir / "work" / "go").touch()
            await combiner.start()
            again = await combiner.attached()
            await again.task(train_task("alice", SMALL), round_name())
            await again.take("t1")

    asyncio.run(scenario())
    assert (mine.data_dir / "work" / "trained").read_text().split() == ["t1"]


def test_result_survives_a_restart_of_the_client(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def before() -> str:
        async with attached(reducer, mine) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL), round_name())
            return (await stream.expect("ready")).object_id

    async def after(object_id: str) -> None:
        async with attached(reducer, mine) as (stream, _, _):
            assert list(stream.hello.spooled_tasks) == ["t1"]
            await stream.task(train_task("alice", SMALL), round_name())
            ready, update = await stream.take("t1")
            assert digest(update) == ready.object_id == object_id

    asyncio.run(after(asyncio.run(before())))
    assert (mine.data_dir / "work" / "trained").read_text().split() == ["t1"]


def test_interrupted_upload_goes_on_where_the_grant_says(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, combiner, _):
            await stream.push(LARGE, LARGE_BYTES)
            await stream.task(train_task("alice", LARGE), round_name())
            ready = await stream.expect("ready")
            await stream.grant("t1")
            first, head = await stream.upload(pieces=3)
            assert (first, len(head)) == (0, 3 << 20)
            stream.cut()
            again = await combiner.attached()
            await again.task(train_task("alice", LARGE), round_name())
            await again.expect("ready")
            await again.grant("t1", offset=len(head))
            first, rest = await again.upload()
            assert first == len(head)
            assert digest(head + rest) == ready.object_id
            await again.ack("t1")

    asyncio.run(scenario())


def test_interrupted_download_goes_on_where_it_was(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, combiner, _):
            await stream.push(LARGE, LARGE_BYTES, stop=5 << 16)
            # What was sent is surely taken once a fetch that came after it is answered for.
            await stream.task(train_task("alice", SMALL, "probe"), round_name())
            await stream.expect("fetch")
            stream.cut()
            again = await combiner.attached()
            assert [(part.object_id, part.offset) for part in again.hello.partial] == [(LARGE, 5 << 16)]
            await again.push(LARGE, LARGE_BYTES, offset=5 << 16)
            await again.task(train_task("alice", LARGE), round_name(1))
            await again.push(SMALL, SMALL_BYTES)
            await again.take("probe")
            await again.take("t1")

    asyncio.run(scenario())


def test_partial_download_survives_a_restart_of_the_client(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def before() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await stream.push(LARGE, LARGE_BYTES, stop=5 << 16)
            await stream.task(train_task("alice", SMALL, "probe"), round_name())
            await stream.expect("fetch")

    async def after() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            assert [(part.object_id, part.offset) for part in stream.hello.partial] == [(LARGE, 5 << 16)]
            await stream.push(LARGE, LARGE_BYTES, offset=5 << 16)
            await stream.task(train_task("alice", LARGE), round_name(1))
            await stream.take("t1")

    asyncio.run(before())
    asyncio.run(after())


def test_dead_combiner_is_left_for_another(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with FakeCombiner(reducer.ca, "first") as first, FakeCombiner(reducer.ca, "second") as second:
            reducer.places = [Place("first", first.port), Place("second", second.port)]
            async with running(settings()):
                await first.attached()
                await first.stop()
                await second.attached()
                assert reducer.asked[-1]["avoid"] == ["first"]
                await first.start()

    asyncio.run(scenario())


def test_old_task_gives_way_to_one_of_another_combiner(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with FakeCombiner(reducer.ca, "first") as first, FakeCombiner(reducer.ca, "second") as second:
            reducer.places = [Place("first", first.port), Place("second", second.port)]
            async with running(settings()):
                stream = await first.attached()
                await stream.push(SMALL, SMALL_BYTES)
                await stream.task(train_task("alice", SMALL, "old", parameters={"step": "wait"}), round_name())
                await stream.expect("task_progress", skip=["task_accepted"])
                await stream.bye("combiner_stopping")
                stream = await second.attached()
                await stream.task(train_task("alice", SMALL, "new"), round_name(1))
                await stream.take("new")

    asyncio.run(scenario())


def test_comes_back_when_reducer_and_combiner_were_both_away(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (_, combiner, agent):
            await asyncio.to_thread(reducer.stop)
            await combiner.stop()
            await combiner.start()
            try:
                await combiner.attached()
                async with asyncio.timeout(PATIENCE_S):
                    await agent.wait_attached()
            finally:
                reducer.start()

    asyncio.run(scenario())


def test_silent_combiner_is_given_up_and_attached_to_again(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings(progress_s=0.5)) as (stream, combiner, _):
            stream.mute = True
            await combiner.attached()

    asyncio.run(scenario())


def test_idle_client_stays_attached_to_a_combiner_that_answers_its_pings(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings(progress_s=4.0)) as (stream, _, __):
            for _ in range(3):
                await stream.expect("ping", skip=())

    asyncio.run(scenario())


def test_full_combiner_is_avoided(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, combiner, _):
            await stream.bye("combiner_full", retry_after_s=0.1)
            await combiner.attached()
            assert reducer.asked[-1]["avoid"] == [combiner.name]

    asyncio.run(scenario())


def test_replaced_client_ends_with_the_reason(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            reducer.places = [Place("fake", combiner.port)]
            running_client = asyncio.create_task(ClientAgent(settings()).run())
            stream = await combiner.attached()
            await stream.bye("replaced")
            await running_client

    with pytest.raises(SaidBye, match="replaced"):
        asyncio.run(scenario())


def test_refused_token_leads_to_a_new_one(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            combiner.refuse = grpc.StatusCode.UNAUTHENTICATED
            reducer.places = [Place("fake", combiner.port)]
            async with running(settings()):
                await combiner.refused.wait()
                combiner.refuse = None
                await combiner.attached()
                assert len(reducer.asked) >= 2

    asyncio.run(scenario())


def test_forbidden_client_ends_with_the_reason(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            combiner.refuse = grpc.StatusCode.PERMISSION_DENIED
            reducer.places = [Place("fake", combiner.port)]
            await ClientAgent(settings()).run()

    with pytest.raises(Forbidden, match="combiner_forbids"):
        asyncio.run(scenario())


def test_token_is_renewed_on_the_open_stream(reducer: FakeReducer, settings: MakeSettings) -> None:
    reducer.token_ttl_s = 1.5

    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            renewal = await stream.expect("token")
            assert renewal.token.startswith("ey")
            assert reducer.renewals >= 1

    asyncio.run(scenario())


def test_client_says_that_it_leaves(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, agent):
            agent.stop()
            assert "stopped" in (await stream.expect("leave")).reason

    asyncio.run(scenario())


def test_client_does_not_train_for_a_trail_that_was_cut(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def once() -> None:
        async with attached(reducer, settings()):
            pass

    reducer.trail = ("sha256:new", 5)
    asyncio.run(once())
    reducer.trail = ("sha256:old", 4)
    with pytest.raises(IntegrityError, match="trail_rolled_back"):
        asyncio.run(ClientAgent(settings()).run())


def test_result_that_a_restarted_combiner_does_not_know_yet_is_kept(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL), round_name())
            await stream.expect("ready")
            await stream.send(refused={"task_id": "t1", "problem": {"code": "unknown_task", "message": "unknown"}})
            await stream.task(train_task("alice", SMALL), round_name())
            await stream.take("t1")

    asyncio.run(scenario())
    assert (mine.data_dir / "work" / "trained").read_text().split() == ["t1"]


def test_client_that_a_combiner_will_never_take_ends_with_the_reason(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            combiner.bye_at_once = "hello_too_large"
            reducer.places = [Place("fake", combiner.port)]
            await ClientAgent(settings()).run()

    with pytest.raises(SaidBye, match="hello_too_large"):
        asyncio.run(scenario())


def test_garbage_from_a_combiner_ends_the_stream_not_the_client(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, combiner, _):
            await stream.send_raw(b"\xff\xfe\xfd")
            again = await combiner.attached()
            await again.push(SMALL, SMALL_BYTES, offset=3)  # a piece of an object that never began
            again = await combiner.attached()
            await again.task(train_task("somebody else", SMALL), round_name())
            await combiner.attached()

    asyncio.run(scenario())


def test_package_that_was_waited_for_is_fetched_again_on_a_new_stream(
    reducer: FakeReducer, settings: MakeSettings, tmp_path: Path
) -> None:
    package_id = digest(b"a package")

    async def scenario() -> None:
        async with attached(reducer, settings(learner=None)) as (stream, combiner, _):
            await stream.task(train_task("alice", SMALL, package_id=package_id), round_name())
            fetch = await stream.expect("fetch")
            assert (fetch.object_id, fetch.kind) == (package_id, PACKAGE)
            stream.cut()
            again = await combiner.attached()
            assert (await again.expect("fetch")).object_id == package_id

    asyncio.run(scenario())
