"""The client as a process: signals, a kill in the middle of a training, nothing left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from fedn.models.digest import digest
from fedn.models.wire import decode
from fedn.plan.settings import ClientSettings
from tests.integration.client.conftest import model_of
from tests.integration.client.stand_ins import FakeReducer, Place
from tests.support.fake_combiner import PATIENCE_S, FakeCombiner, FakeStream, round_name, train_task
from tests.support.federation import wait_for
from tests.support.processes import has_ended

MakeSettings = Callable[..., ClientSettings]
SMALL, SMALL_BYTES = model_of(np.arange(4, dtype=np.float32))

PROGRAM = """
import json, os, sys
from fedn.client.main import run
from fedn.plan.settings import ClientSettings, load_settings

sys.exit(run(load_settings(ClientSettings, file=None, environ={}, flags=json.loads(sys.argv[1]))))
"""


@contextmanager
def program(settings: ClientSettings) -> Iterator[subprocess.Popen[bytes]]:
    flags = {"join": settings.join, "name": settings.name, "learner": settings.learner}
    flags["data_dir"] = str(settings.data_dir)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(flags)], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


async def in_training(combiner: FakeCombiner) -> FakeStream:
    stream = await combiner.attached()
    await stream.push(SMALL, SMALL_BYTES)
    await stream.task(train_task("alice", SMALL, parameters={"step": "wait"}), round_name())
    await stream.expect("task_progress", skip=["task_accepted"])
    return stream


async def all_end(processes: list[psutil.Process]) -> None:
    await asyncio.to_thread(wait_for, lambda: all(has_ended(one.pid) for one in processes), "the workers have ended")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_on_a_signal_in_the_middle_of_a_training(
    reducer: FakeReducer, settings: MakeSettings, number: signal.Signals
) -> None:
    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            reducer.places = [Place("fake", combiner.port)]
            with program(settings()) as process:
                stream = await in_training(combiner)
                workers = psutil.Process(process.pid).children(recursive=True)
                assert workers
                process.send_signal(number)
                await stream.expect("leave")
                assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
                await all_end(workers)

    asyncio.run(scenario())


def test_killed_client_takes_its_worker_along_and_does_the_task_after_its_restart(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    mine = settings()

    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            reducer.places = [Place("fake", combiner.port)]
            with program(mine) as process:
                await in_training(combiner)
                workers = psutil.Process(process.pid).children(recursive=True)
                os.kill(process.pid, signal.SIGKILL)
                assert workers
                await all_end(workers)
            (mine.data_dir / "work" / "go").touch()
            with program(mine):
                stream = await combiner.attached()
                await stream.push(SMALL, SMALL_BYTES)
                await stream.task(train_task("alice", SMALL), round_name())
                await stream.take("t1")

    asyncio.run(scenario())


def test_result_survives_a_kill_of_the_client(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            reducer.places = [Place("fake", combiner.port)]
            with program(mine) as process:
                stream = await combiner.attached()
                await stream.push(SMALL, SMALL_BYTES)
                await stream.task(train_task("alice", SMALL), round_name())
                first = await stream.expect("ready")
                os.kill(process.pid, signal.SIGKILL)
            with program(mine):
                stream = await combiner.attached()
                assert list(stream.hello.spooled_tasks) == ["t1"]
                await stream.task(train_task("alice", SMALL), round_name())
                ready, _ = await stream.take("t1")
                assert ready.object_id == first.object_id

    asyncio.run(scenario())
    assert (mine.data_dir / "work" / "trained").read_text().split() == ["t1"]


def test_large_result_survives_a_kill_in_a_file_that_was_used_before(
    reducer: FakeReducer, settings: MakeSettings
) -> None:
    mine = settings()
    models = [model_of(np.full(300_000, value, np.float32)) for value in range(4)]

    async def scenario() -> None:
        async with FakeCombiner(reducer.ca) as combiner:
            reducer.places = [Place("fake", combiner.port)]
            with program(mine) as process:
                stream = await combiner.attached()
                for index, (model_id, data) in enumerate(models):
                    await stream.push(model_id, data)
                    await stream.task(train_task("alice", model_id, f"t{index}"), round_name(index))
                    if index < 3:
                        await stream.take(f"t{index}")
                first = await stream.expect("ready")
                os.kill(process.pid, signal.SIGKILL)
            assert len(list((mine.data_dir / "spool").iterdir())) == 1
            with program(mine):
                stream = await combiner.attached()
                assert list(stream.hello.spooled_tasks) == ["t3"]
                assert sorted(stream.hello.held_objects) == sorted(model_id for model_id, _ in models[2:])
                await stream.task(train_task("alice", models[3][0], "t3"), round_name(3))
                ready, update = await stream.take("t3")
                assert ready.object_id == first.object_id == digest(update)
                assert float(decode(update)["0"][0]) == 4

    asyncio.run(scenario())
    assert (mine.data_dir / "work" / "trained").read_text().split() == ["t0", "t1", "t2", "t3"]


def test_client_that_cannot_go_on_says_why_in_one_line(
    reducer: FakeReducer, settings: MakeSettings, tmp_path: Path
) -> None:
    with program(settings(learner=f"{tmp_path}/missing.py:Nothing")) as process:
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        text = process.stderr.read().decode()
    assert "bad_learner" in text.splitlines()[-1]
    assert "Traceback" not in text
