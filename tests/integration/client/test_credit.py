"""Results that follow their Ready at once, on the credit that a task gave."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from fedn.models.digest import digest
from fedn.plan.settings import ClientSettings
from tests.integration.client.conftest import attached, model_of
from tests.integration.client.stand_ins import FakeReducer
from tests.support.fake_combiner import FakeStream, round_name, train_task

MakeSettings = Callable[..., ClientSettings]
SMALL, SMALL_BYTES = model_of(np.arange(4, dtype=np.float32))
LARGE, LARGE_BYTES = model_of(np.arange(800_000, dtype=np.float32))
CREDIT = 1 << 30


async def nothing_more(stream: FakeStream) -> None:
    """The client sends no piece and no UploadEnd before what answers a message that came later."""
    await stream.task(train_task("alice", digest(b"never sent"), "fence"), round_name(9))
    await stream.expect("fetch", skip=())


@pytest.mark.parametrize(("model_id", "data"), [(SMALL, SMALL_BYTES), (LARGE, LARGE_BYTES)])
def test_pieces_follow_their_ready_without_a_grant_and_without_an_end(
    reducer: FakeReducer, settings: MakeSettings, model_id: str, data: bytes
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(model_id, data)
            for index in range(3):
                task_id = f"t{index}"
                await stream.task(train_task("alice", model_id, task_id), round_name(index), credit_bytes=len(data))
                ready = await stream.expect("ready")
                assert ready.follows
                assert digest(await stream.following(ready.size_bytes)) == ready.object_id
                await stream.ack(task_id)
            await nothing_more(stream)

    asyncio.run(scenario())


@pytest.mark.parametrize("credit_bytes", [0, len(SMALL_BYTES) - 1])
def test_result_larger_than_the_credit_waits_for_its_grant(
    reducer: FakeReducer, settings: MakeSettings, credit_bytes: int
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL), round_name(), credit_bytes=credit_bytes)
            ready, update = await stream.take("t1")
            assert not ready.follows
            assert digest(update) == ready.object_id

    asyncio.run(scenario())


def test_result_waits_while_another_is_not_settled(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL, "a"), round_name())
            assert not (await stream.expect("ready")).follows
            await stream.task(train_task("alice", SMALL, "b"), round_name(1), credit_bytes=CREDIT)
            assert not (await stream.expect("ready")).follows
            for task_id in ("a", "b"):
                await stream.grant(task_id)
                await stream.upload()
                await stream.ack(task_id)
            await stream.task(train_task("alice", SMALL, "c"), round_name(2), credit_bytes=CREDIT)
            ready = await stream.expect("ready")
            assert ready.follows
            await stream.following(ready.size_bytes)

    asyncio.run(scenario())


def test_grant_for_a_result_that_followed_sends_it_from_the_grants_offset(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(LARGE, LARGE_BYTES)
            await stream.task(train_task("alice", LARGE), round_name(), credit_bytes=CREDIT)
            ready = await stream.expect("ready")
            whole = await stream.following(ready.size_bytes)
            await stream.grant("t1", offset=1 << 20)
            first, rest = await stream.upload()
            assert first == 1 << 20
            assert whole[:first] + rest == whole
            await stream.ack("t1")
            await nothing_more(stream)

    asyncio.run(scenario())


def test_credit_of_a_broken_stream_is_void_and_the_upload_resumes_by_grant(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, combiner, agent):
            await stream.push(LARGE, LARGE_BYTES)
            await stream.task(
                train_task("alice", LARGE, parameters={"step": "wait"}), round_name(), credit_bytes=CREDIT
            )
            await stream.expect("task_progress")
            stream.cut()
            again = await combiner.attached()
            await agent.wait_attached()
            (mine.data_dir / "work" / "go").touch()
            ready = await again.expect("ready")
            assert not ready.follows
            await again.task(train_task("alice", LARGE), round_name(0, attempt=1))
            assert not (await again.expect("ready")).follows
            await again.grant("t1", offset=2 << 20)
            first, rest = await again.upload()
            assert (first, first + len(rest)) == (2 << 20, ready.size_bytes)

    asyncio.run(scenario())


def test_spooled_result_asked_again_with_credit_follows(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, combiner, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL), round_name())
            await stream.expect("ready")
            stream.cut()
            again = await combiner.attached()
            await again.task(train_task("alice", SMALL), round_name(0, attempt=1), credit_bytes=CREDIT)
            ready = await again.expect("ready")
            assert ready.follows and ready.metadata.round.attempt == 1
            assert digest(await again.following(ready.size_bytes)) == ready.object_id

    asyncio.run(scenario())


def test_task_asked_again_in_the_middle_of_its_upload_waits_for_a_grant(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES)
            await stream.task(train_task("alice", SMALL), round_name(), credit_bytes=CREDIT)
            assert (await stream.expect("ready")).follows
            await stream.following(len(SMALL_BYTES))
            await stream.task(train_task("alice", SMALL), round_name(0, attempt=1), credit_bytes=CREDIT)
            ready = await stream.expect("ready")
            assert not ready.follows and ready.metadata.round.attempt == 1
            await stream.grant("t1")
            assert digest((await stream.upload())[1]) == ready.object_id

    asyncio.run(scenario())
