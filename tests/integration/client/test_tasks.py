"""One client's way through its tasks, over real gRPC and TLS, with the learner in its real worker process."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedn.client.agent import ClientAgent
from fedn.models.digest import digest
from fedn.models.wire import decode
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskSpec
from tests.integration.client.conftest import attached, model_of
from tests.integration.client.stand_ins import FakeReducer
from tests.support.fake_combiner import FakeStream, round_name, train_task

MakeSettings = Callable[..., ClientSettings]
SMALL, SMALL_BYTES = model_of(np.arange(4, dtype=np.float32))


async def ask(stream: FakeStream, task: TaskSpec, index: int = 0, attempt: int = 0) -> None:
    """A task, its model first if the client does not hold it."""
    if task.model_id == SMALL and SMALL not in stream.hello.held_objects:
        await stream.push(SMALL, SMALL_BYTES)
    await stream.task(task, round_name(index, attempt))


async def fence(stream: FakeStream) -> None:
    """Returns when the client has taken in all that was sent before."""
    await stream.task(train_task("alice", digest(b"never sent"), "fence"), round_name(9))
    await stream.expect("fetch")


def trained(settings: ClientSettings) -> list[str]:
    """Tasks that the learner has trained."""
    path = settings.data_dir / "work" / "trained"
    return path.read_text().split() if path.exists() else []


def test_trains_and_uploads_what_it_made(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            assert stream.hello.client == "alice"
            assert sorted(stream.hello.kinds) == [1, 2, 3, 4]
            assert stream.token.startswith("Bearer ey")
            await ask(stream, train_task("alice", SMALL, validate_incoming=True))
            ready, update = await stream.take("t1")
            assert digest(update) == ready.object_id
            np.testing.assert_array_equal(decode(update)["0"], [1, 2, 3, 4])
            metadata = ready.metadata
            assert (metadata.num_examples, metadata.num_steps, metadata.base_model_id) == (7, 3, SMALL)
            assert dict(metadata.metrics) == {"loss": 0.25}
            assert dict(metadata.validation) == {"mean": 1.5}
            assert metadata.num_validation_examples == 5
            assert metadata.task_ms > 0

    asyncio.run(scenario())


def test_large_models_go_through_files_and_leave_none_behind(reducer: FakeReducer, settings: MakeSettings) -> None:
    model_id, data = model_of(np.zeros(600_000, np.float32), np.ones(3))
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await stream.push(model_id, data)
            await stream.task(train_task("alice", model_id), round_name())
            ready, update = await stream.take("t1")
            assert digest(update) == ready.object_id
            assert float(decode(update)["0"].sum()) == 600_000.0
            # The model itself is untouched by a learner that trains in place.
            await stream.task(train_task("alice", model_id, "t2"), round_name(1))
            again, _ = await stream.take("t2")
            assert again.object_id == ready.object_id
            await fence(stream)

    asyncio.run(scenario())
    assert [path.name for path in (mine.data_dir / "spool").iterdir()] == []
    assert len(list((mine.data_dir / "objects").iterdir())) == 1


def test_rounds_use_the_same_files_again(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()
    seen: list[set[int]] = []

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            for index in range(6):
                model_id, data = model_of(np.full(100_000 + index, index, np.float32))
                await stream.push(model_id, data)
                await stream.task(train_task("alice", model_id, f"t{index}"), round_name(index))
                ready, update = await stream.take(f"t{index}")
                assert digest(update) == ready.object_id
                assert (decode(update)["0"] == index + 1).all()
                files = [path for name in ("objects", "spool") for path in (mine.data_dir / name).iterdir()]
                seen.append({path.stat().st_ino for path in files})

    asyncio.run(scenario())
    assert seen[2] == seen[3] == seen[5]
    assert len(seen[5]) == 3


def test_arrays_that_a_learner_keeps_are_its_own(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        model_id, data = model_of(np.zeros(100_000, np.float32), np.ones(3))
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(model_id, data)
            for index in range(4):
                task = train_task("alice", model_id, f"t{index}", parameters={"step": "keep"})
                await stream.task(task, round_name(index))
                ready, update = await stream.take(f"t{index}")
                assert dict(ready.metadata.metrics) == {"changed": 0}
                assert (decode(update)["0"] == 100 + index).all() and (decode(update)["1"] == 1).all()

    asyncio.run(scenario())


def test_full_disk_is_reported_and_the_client_lives_on(
    reducer: FakeReducer, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id, data = model_of(np.zeros(100_000, np.float32))

    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            usage = shutil.disk_usage(Path.cwd())._replace(free=0)
            with monkeypatch.context() as patch:
                patch.setattr(shutil, "disk_usage", lambda path: usage)
                await stream.task(train_task("alice", model_id, "model"), round_name())
                await stream.expect("fetch")
                await stream.push(model_id, data)
                problem = (await stream.expect("task_failed")).problem
                assert problem.code == "disk_full" and "no room" in problem.message
            await stream.push(model_id, data)
            await stream.task(train_task("alice", model_id, "t1"), round_name(1))
            await stream.take("t1")

    asyncio.run(scenario())


def test_init_validate_and_predict_answer_in_their_own_ways(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await ask(stream, train_task("alice", "", "a", kind="init"))
            _, made = await stream.take("a")
            assert decode(made)["w"].shape == (3,)
            await ask(stream, train_task("alice", SMALL, "b", kind="validate"))
            ready, none = await stream.take("b")
            assert (ready.size_bytes, ready.object_id, none) == (0, "", b"")
            assert (dict(ready.metadata.metrics), ready.metadata.num_examples) == ({"mean": 1.5}, 5)
            await ask(stream, train_task("alice", SMALL, "c", kind="predict"))
            _, answers = await stream.take("c")
            np.testing.assert_array_equal(decode(answers)["answers"], [0, 1, 2, 3])

    asyncio.run(scenario())


def test_owner_decides_what_the_client_offers(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings(validator=False)) as (stream, _, _):
            assert sorted(stream.hello.kinds) == [1, 2, 4]
            await ask(stream, train_task("alice", SMALL, validate_incoming=True))
            ready, _ = await stream.take("t1")
            assert dict(ready.metadata.validation) == {}

    asyncio.run(scenario())


def test_failing_step_is_reported_with_its_error_and_the_client_lives_on(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL, "bad", parameters={"step": "raise"}))
            failed = await stream.expect("task_failed")
            assert failed.task_id == "bad"
            assert failed.round.session == "s1"
            assert failed.problem.code == "learner_failed"
            assert "ValueError: no such column: age" in failed.problem.message
            assert "plus_one.py" in failed.problem.message
            await stream.task(train_task("alice", SMALL, "good"), round_name(1))
            await stream.take("good")

    asyncio.run(scenario())


def test_killed_worker_is_reported_with_its_last_words_and_replaced(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL, "bad", parameters={"step": "die"}))
            problem = (await stream.expect("task_failed")).problem
            assert problem.code == "worker_died"
            assert "SIGKILL" in problem.message and "about to die" in problem.message
            await stream.task(train_task("alice", SMALL, "good"), round_name(1))
            await stream.take("good")

    asyncio.run(scenario())


def test_hanging_step_is_killed_at_the_time_limit(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings(task_timeout_s=1.0)) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL, "bad", parameters={"step": "hang"}))
            assert (await stream.expect("task_failed")).problem.code == "task_timeout"

    asyncio.run(scenario())


def test_progress_of_a_step_is_told(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL, parameters={"step": "wait"}))
            progress = await stream.expect("task_progress", skip=["task_accepted"])
            assert (progress.fraction, dict(progress.metrics)) == (0.5, {"loss": 2.0})
            (mine.data_dir / "work" / "go").touch()
            await stream.take("t1")

    asyncio.run(scenario())


def test_only_a_task_that_takes_its_time_is_accepted(
    reducer: FakeReducer, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL, "warms up"))
            await stream.take("warms up")
            with monkeypatch.context() as patch:
                patch.setattr("fedn.client.tasks._ACCEPTED_AFTER_S", 600.0)  # quick, on a machine however slow
                await stream.task(train_task("alice", SMALL, "quick"), round_name(1))
                await stream.expect("ready", skip=[])
                await stream.ack("quick")
            await stream.task(train_task("alice", SMALL, "quiet", parameters={"step": "sleep"}), round_name(2))
            assert (await stream.expect("task_accepted", skip=[])).task_id == "quiet"
            await stream.expect("ready", skip=[])
            await stream.task(train_task("alice", SMALL, "slow", parameters={"step": "wait"}), round_name(3))
            assert (await stream.expect("task_accepted", skip=[])).task_id == "slow"
            await stream.expect("task_progress", skip=[])
            (mine.data_dir / "work" / "go").touch()
            await stream.expect("ready", skip=["task_accepted"])

    asyncio.run(scenario())


def test_cancelled_task_ends_early_and_says_nothing(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL, "old", parameters={"step": "wait"}))
            await stream.expect("task_progress", skip=["task_accepted"])
            await stream.send(cancelled={"task_id": "old", "reason": "the round closed"})
            await stream.task(train_task("alice", SMALL, "new"), round_name(1))
            await stream.take("new")  # nothing of the old one comes before it

    asyncio.run(scenario())


def test_task_asked_again_is_answered_from_the_spool_for_the_new_attempt(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL))
            first = await stream.expect("ready")
            await stream.task(train_task("alice", SMALL), round_name(0, attempt=1))
            second, update = await stream.take("t1")
            assert (first.metadata.round.attempt, second.metadata.round.attempt) == (0, 1)
            assert digest(update) == first.object_id == second.object_id

    asyncio.run(scenario())
    assert trained(mine) == ["t1"]


def test_task_asked_again_while_it_runs_is_done_once(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL, parameters={"step": "wait"}))
            await stream.expect("task_progress", skip=["task_accepted"])
            await stream.task(train_task("alice", SMALL), round_name(0, attempt=1))
            await stream.expect("task_accepted", skip=[])
            (mine.data_dir / "work" / "go").touch()
            ready, _ = await stream.take("t1")
            assert ready.metadata.round.attempt == 1

    asyncio.run(scenario())
    assert trained(mine) == ["t1"]


def test_cancelled_result_still_answers_another_attempt(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL))
            await stream.expect("ready")
            await stream.send(cancelled={"task_id": "t1", "reason": "the round is tried again"})
            await stream.task(train_task("alice", SMALL), round_name(0, attempt=1))
            await stream.take("t1")

    asyncio.run(scenario())
    assert trained(mine) == ["t1"]


def test_cancelled_result_is_thrown_away_when_the_next_task_comes(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL))
            await stream.expect("ready")
            await stream.send(cancelled={"task_id": "t1", "reason": "late"})
            await stream.task(train_task("alice", SMALL, "t2"), round_name(1))
            await stream.take("t2")
            await fence(stream)

    asyncio.run(scenario())
    assert list((mine.data_dir / "spool").iterdir()) == []


def test_refused_result_is_not_offered_again(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await ask(stream, train_task("alice", SMALL))
            await stream.expect("ready")
            await stream.send(refused={"task_id": "t1", "problem": {"code": "update_late", "message": "too late"}})
            await stream.task(train_task("alice", SMALL, "t2"), round_name(1))
            await stream.take("t2")
            await fence(stream)

    asyncio.run(scenario())
    assert list((mine.data_dir / "spool").iterdir()) == []


def test_model_that_was_not_pushed_is_fetched(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.task(train_task("alice", SMALL), round_name())
            fetch = await stream.expect("fetch")
            assert (fetch.object_id, fetch.offset) == (SMALL, 0)
            await stream.push(SMALL, SMALL_BYTES)
            await stream.take("t1")

    asyncio.run(scenario())


def test_missing_model_fails_the_task(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.task(train_task("alice", SMALL), round_name())
            await stream.expect("fetch")
            await stream.send(missing={"object_id": SMALL})
            assert (await stream.expect("task_failed")).problem.code == "object_missing"

    asyncio.run(scenario())


def test_damaged_model_is_fetched_again(reducer: FakeReducer, settings: MakeSettings) -> None:
    async def scenario() -> None:
        async with attached(reducer, settings()) as (stream, _, _):
            await stream.push(SMALL, SMALL_BYTES[:-1] + b"\xff")
            await stream.task(train_task("alice", SMALL), round_name())
            fetch = await stream.expect("fetch")
            assert fetch.offset == 0
            await stream.push(SMALL, SMALL_BYTES)
            await stream.take("t1")

    asyncio.run(scenario())


def test_learner_that_does_not_load_ends_the_client_with_the_reason(
    reducer: FakeReducer, settings: MakeSettings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import a_module_that_is_not_there\n")

    with pytest.raises(TaskFailed, match="a_module_that_is_not_there"):
        asyncio.run(ClientAgent(settings(learner=f"{broken}:Nothing")).run())
