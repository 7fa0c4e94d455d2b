import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedn.client.calls import TaskOutcome
from fedn.client.isolation.engine import LABEL
from fedn.client.isolation.exchange import sweep
from fedn.client.runtimes import Runtimes
from fedn.client.slots import HeldFile, SlotFolder
from fedn.models.wire import decode, encode
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import CodecChoice, TaskKind, TaskSpec
from tests.docker.isolation.conftest import BASE, IMAGE, Site, containers_of, docker, failure, fetch_nothing, train

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


def test_a_learner_trains_small_and_large_models_in_one_worker(site: Site, tmp_path: Path) -> None:
    site.learner("self.count = getattr(self, 'count', 0) + 1\ncontext.report(self.count / 10, {})")
    large = encode({"w": np.arange(1_000_000, dtype=np.float32)})
    held = tmp_path / "model"
    held.write_bytes(large)
    slots = SlotFolder(tmp_path)
    calls = [train(), *(train(model=HeldFile(held, len(large)), result=slots.create(1 << 16)) for _ in range(2))]
    outcomes = site.run(*calls)
    assert all(isinstance(outcome, TaskOutcome) for outcome in outcomes), outcomes
    np.testing.assert_array_equal(decode(outcomes[0].tensors)["w"], [2, 2])
    for outcome in outcomes[1:]:
        with outcome.tensors.view(outcome.size_bytes) as view:
            np.testing.assert_array_equal(decode(view)["w"], np.arange(1_000_000) + 1)
        outcome.tensors.release()


def test_what_updates_leave_out_is_kept_from_task_to_task(site: Site, tmp_path: Path) -> None:
    site.learner("weights = {name: value + np.float32([1, 0.25]) for name, value in weights.items()}")
    chain = (CodecChoice(name="delta"), CodecChoice(name="topk", options={"fraction": 0.5}))
    feedback = tmp_path / "feedback"
    calls = [
        train(task_id=f"t{n}", round=n, update_chain=chain, feedback_folder=feedback, model_id="blake3:" + "0" * 64)
        for n in (1, 2)
    ]
    outcomes = site.run(*calls)
    assert all(isinstance(outcome, TaskOutcome) and outcome.coded for outcome in outcomes), outcomes
    assert (site.data_dir / "isolation" / "feedback" / "state.json").is_file()
    assert not (feedback / "state.json").exists()


def test_a_learner_that_eats_memory_is_told_and_the_next_task_has_a_new_worker(site: Site) -> None:
    site.learner("if context.parameters: self.x = np.ones(1 << 27)")
    eaten, trained = site.run(train(parameters={"eat": True}), train(task_id="t2"))
    assert isinstance(eaten, TaskFailed) and eaten.code == "out_of_memory" and "256 MiB" in eaten.message
    assert isinstance(trained, TaskOutcome)


def test_a_learner_has_no_network(site: Site) -> None:
    site.learner("socket.create_connection(('192.0.2.1', 80), timeout=20)")
    error = failure(site.run(train()))
    assert error.code == "learner_failed" and "Isolated code has no network" in error.message


def test_a_learner_that_hangs_is_killed(site: Site) -> None:
    site.learner("if context.parameters: time.sleep(600)")
    hung, trained = site.run(train(parameters={"hang": 1}, timeout_s=3.0), train(task_id="t2"))
    assert isinstance(hung, TaskFailed) and hung.code == "task_timeout"
    assert isinstance(trained, TaskOutcome)


def test_a_cancelled_task_ends(site: Site) -> None:
    site.learner("context.report(0.1, {})\nwhile not context.is_cancelled(): time.sleep(0.01)")

    async def scenario() -> None:
        runtimes = Runtimes(site.settings(), site.data_dir, fetch_nothing)
        began = asyncio.Event()
        try:
            await runtimes.start()
            runtime = await runtimes.for_task(TaskSpec(task_id="t1", client="alice", kind=TaskKind.TRAIN))
            running = asyncio.create_task(runtime.run(train(), lambda fraction, metrics: began.set()))
            await asyncio.wait_for(began.wait(), 120)
            await runtime.cancel("t1")
            with pytest.raises(TaskFailed, match="task_cancelled"):
                await running
        finally:
            await runtimes.close()

    asyncio.run(scenario())


def test_a_killed_client_takes_its_container_along(site: Site) -> None:
    site.learner("context.report(0.1, {})\ntime.sleep(3600)")
    code = f"""
import asyncio
from pathlib import Path
from tests.docker.isolation.conftest import Site, train
site = Site(Path({str(site.folder)!r}))
print("about to start", flush=True)
site.run(train(timeout_s=3600.0))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdout is not None and client.stdout.readline()
        events = docker_events(site.data_dir)
        try:
            assert next(line for line in events.stdout if line.split()[0] == "start")  # of the look at the image
            started = next(line for line in events.stdout if line.split()[0] == "start").split()[1]
            os.kill(client.pid, signal.SIGKILL)
            client.wait()
            assert next(line for line in events.stdout if line.split() == ["destroy", started])
        finally:
            events.terminate()
            events.communicate()
    sweep(site.data_dir / "isolation")


def docker_events(data_dir: Path) -> "subprocess.Popen[str]":
    """`start ID` and `destroy ID` of a client's containers, from now on, for two minutes at most."""
    command = ["timeout", "120", "docker", "events", "--filter", "type=container", "--filter", "event=start"]
    command += ["--filter", "event=destroy", "--filter", f"label={LABEL}={data_dir}", "--format", "{{.Action}} {{.ID}}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_an_earlier_client_left_is_removed_at_the_start(site: Site) -> None:
    site.learner("pass")
    site.data_dir.mkdir()
    left = docker("run", "-d", "--label", f"{LABEL}={site.data_dir}", "--entrypoint", "sleep", IMAGE, "600").strip()
    other = docker("run", "-d", "--label", f"{LABEL}=/elsewhere", "--entrypoint", "sleep", IMAGE, "600").strip()
    try:
        assert containers_of(site.data_dir) == [left]
        assert isinstance(site.run(train())[0], TaskOutcome)
        assert containers_of(Path("/elsewhere")) == [other]
    finally:
        docker("rm", "-f", other)


def test_an_image_that_is_not_there_ends_the_client_with_the_reason(site: Site) -> None:
    site.learner("pass")
    site.changes["isolation_image"] = "nobody/has:this"
    with pytest.raises(TaskFailed, match="image_missing"):
        site.run(train())


def test_a_learner_needs_an_image_with_this_fedn(site: Site) -> None:
    site.learner("pass")
    site.changes["isolation_image"] = BASE
    with pytest.raises(TaskFailed, match="image_without_fedn"):
        site.run(train())
