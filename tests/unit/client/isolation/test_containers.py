"""What the agent does with containers: here a stand-in for the engine starts the guard as a process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fedn.client.command import Limits
from fedn.client.isolation import containers
from fedn.client.isolation.containers import ContainerIsolation, ContainerPlace
from fedn.client.isolation.engine import Start
from fedn.client.isolation.places import Needs
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import TaskFailed


class StandIn:
    """Starts what a container would run. Paths of the container's own are those of its folders here."""

    started: list[Start] = []  # noqa: RUF012 (one test at a time)
    fail_to_remove = False
    never_begin = False

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def check(self) -> str:
        return "0"

    def image_id(self, name: str) -> str:
        return f"id of {name}"

    def sweep(self, data_dir: Path) -> int:
        return 0

    def start(self, start: Start) -> str:
        StandIn.started.append(start)
        own = {bind.target: str(bind.source) for bind in start.binds if bind.target.startswith("/run/fedn")}
        words = [sys.executable if word == "python3" else word for word in start.words]
        # The path of a socket may have 108 bytes, so folders are named by descriptors.
        opened = {target: os.open(source, os.O_PATH) for target, source in own.items()}
        for target, descriptor in opened.items():
            words = [word.replace(f"{target}/", f"/proc/self/fd/{descriptor}/") for word in words]
        if StandIn.never_begin:
            words = [sys.executable, "-c", "import sys; sys.exit(9)"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **start.environment}
        process = subprocess.Popen(
            words, cwd=start.folder, env=environment, pass_fds=opened.values(), stderr=subprocess.DEVNULL
        )
        for descriptor in opened.values():
            os.close(descriptor)
        self._processes[str(process.pid)] = process
        return str(process.pid)

    def wait(self, container_id: str) -> int:
        return self._processes[container_id].wait()

    def remove(self, container_id: str) -> None:
        self._processes[container_id].send_signal(signal.SIGKILL)
        self._processes[container_id].wait()
        if StandIn.fail_to_remove:
            raise TaskFailed("engine_unreachable", "the engine has gone")

    def close(self) -> None:
        for process in self._processes.values():
            process.wait()


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "Engine", StandIn)
    monkeypatch.setattr(StandIn, "started", [])


def in_place(tmp_path: Path, scenario: Callable[[ContainerPlace], Awaitable[None]]) -> None:
    """Carries out a scenario in a place for a package that is there."""
    for name in ("data", "package", "work", "task"):
        (tmp_path / name).mkdir()
    settings = ClientSettings(
        join="fedn1.x",
        data_dir=tmp_path / "own",
        data_path=tmp_path / "data",
        isolation="docker",
        isolation_image="an/image",
        isolation_cpus=1.5,
        isolation_pids=99,
        memory_bytes=1 << 30,
    )

    async def whole() -> None:
        async with asyncio.timeout(200):
            isolation = ContainerIsolation(settings, tmp_path / "own")
            try:
                assert "an/image" in await isolation.start()
                needs = Needs(root=tmp_path / "package", work_dir=tmp_path / "work")
                await scenario(await isolation.place(needs))
            finally:
                await isolation.close()

    asyncio.run(whole())
    assert not list((tmp_path / "own" / "isolation").glob("container-*"))


async def run(place: ContainerPlace, tmp_path: Path, code: str, **limits: float) -> None:
    await place.run_command(
        "train",
        ["python3", "-c", code],
        folder=tmp_path / "package",
        environment={"FEDN_WORK_DIR": str(tmp_path / "work")},
        limits=Limits(**limits),  # type: ignore[arg-type]
        task_folder=tmp_path / "task",
    )


def test_a_command_runs_with_the_owners_limits_and_sees_what_it_may(tmp_path: Path) -> None:
    async def scenario(place: ContainerPlace) -> None:
        await run(place, tmp_path, "import os; open(os.environ['FEDN_WORK_DIR'] + '/done', 'w')")

    in_place(tmp_path, scenario)
    assert (tmp_path / "work" / "done").exists()
    start = StandIn.started[-1]
    assert (start.image_id, start.cpus, start.pids, start.memory_bytes) == ("id of an/image", 1.5, 99, 1 << 30)
    assert not start.user.startswith("0:") and 0 not in start.groups
    shown = {bind.target: bind.writable for bind in start.binds}
    own = {name: writable for name, writable in shown.items() if not name.startswith("/run/fedn")}
    assert own == {
        str(tmp_path / "data"): False,
        str(tmp_path / "package"): False,
        str(tmp_path / "work"): True,
        str(tmp_path / "task"): True,
    }
    assert shown["/run/fedn"] is False and len(shown) == 5
    assert not any(name.startswith(("FEDN_JOIN", "FEDN_CLIENT")) for name in start.environment)


def test_a_commands_failure_has_its_last_words_and_what_the_isolation_has_to_do_with_it(tmp_path: Path) -> None:
    async def scenario(place: ContainerPlace) -> None:
        with pytest.raises(TaskFailed, match="step_failed") as caught:
            await run(place, tmp_path, "raise OSError('Network is unreachable')")
        assert "ended with status 1" in caught.value.message and "no network" in caught.value.message
        with pytest.raises(TaskFailed, match="was killed by SIGKILL"):
            await run(place, tmp_path, "import os; os.kill(os.getpid(), 9)")

    in_place(tmp_path, scenario)


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async def scenario(place: ContainerPlace) -> None:
        with pytest.raises(TaskFailed, match="task_timeout"):
            await run(place, tmp_path, "import time; time.sleep(300)", timeout_s=1.0)

    in_place(tmp_path, scenario)


def test_a_container_that_ends_before_it_begins_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(place: ContainerPlace) -> None:
        monkeypatch.setattr(StandIn, "never_begin", True)
        with pytest.raises(TaskFailed, match="container_not_started") as caught:
            await run(place, tmp_path, "pass")
        assert "status 9" in caught.value.message

    in_place(tmp_path, scenario)


def test_an_engine_that_goes_away_does_not_lose_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(place: ContainerPlace) -> None:
        monkeypatch.setattr(StandIn, "fail_to_remove", True)
        await run(place, tmp_path, "pass")

    in_place(tmp_path, scenario)
    assert "a container may be left" in caplog.text


def test_a_workers_end_is_told_by_its_guard(tmp_path: Path) -> None:
    async def scenario(place: ContainerPlace) -> None:
        worker = await place.start_worker(tmp_path / "package", 10_000)
        await worker.channel.send({"op": "load", "learner": "nothing:There", "folder": None, "memory_bytes": None})
        assert (await worker.channel.receive()).head["op"] == "failed"
        with pytest.raises((EOFError, ConnectionError)):
            await worker.channel.receive()
        ending = await worker.end()
        assert (ending.code, ending.text) == ("worker_died", "ended with status 1")

    in_place(tmp_path, scenario)


def test_a_killed_worker_lets_its_channel_go(tmp_path: Path) -> None:
    async def scenario(place: ContainerPlace) -> None:
        worker = await place.start_worker(None, 10_000)
        worker.kill()
        assert (await worker.end()).code == "worker_died"

    in_place(tmp_path, scenario)
