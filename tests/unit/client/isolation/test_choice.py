import asyncio
import gc
import sys
from pathlib import Path

import pytest

from fedn.client.isolation.choice import isolation_of
from fedn.client.isolation.containers import ContainerIsolation
from fedn.client.isolation.processes import ProcessIsolation
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import InvalidSettings, TaskFailed


def settings(tmp_path: Path, **given: object) -> ClientSettings:
    return ClientSettings.model_validate({"join": "fedn1.x", "data_dir": tmp_path / "own", **given})


def faults(tmp_path: Path, **given: object) -> set[tuple[str, str]]:
    with pytest.raises(InvalidSettings) as caught:
        settings(tmp_path, **given)
    return {(problem.code, problem.where["field"]) for problem in caught.value.problems}


def test_the_settings_choose(tmp_path: Path) -> None:
    assert isinstance(isolation_of(settings(tmp_path), tmp_path), ProcessIsolation)
    in_containers = isolation_of(settings(tmp_path, isolation="docker", isolation_image="x"), tmp_path)
    assert isinstance(in_containers, ContainerIsolation)
    assert in_containers.memory_bytes > 0 and in_containers.user[0] > 0


def test_a_missing_sdk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("docker", "fedn.client.isolation.containers", "fedn.client.isolation.engine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(TaskFailed, match="docker_missing"):
        isolation_of(settings(tmp_path, isolation="docker", isolation_image="x"), tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK forgets a socket there
def test_an_engine_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    isolation = isolation_of(settings(tmp_path, isolation="docker", isolation_image="x"), tmp_path)

    async def scenario() -> None:
        try:
            with pytest.raises(TaskFailed, match="engine_unreachable"):
                await isolation.start()
        finally:
            await isolation.close()

    asyncio.run(scenario())
    gc.collect()


def test_what_would_do_nothing_is_refused(tmp_path: Path) -> None:
    given = {"isolation_image": "x", "isolation_cpus": 1.0, "isolation_pids": 99, "data_folders": [tmp_path]}
    assert faults(tmp_path, **given) == {("unused_setting", name) for name in given}
    assert faults(tmp_path, isolation="docker") == {("missing_setting", "isolation_image")}
    learner = {"isolation": "docker", "isolation_image": "x", "learner": "a:B"}
    assert faults(tmp_path, **learner) == {("unused_setting", "isolation")}


@pytest.mark.parametrize("name", ["data_path", "package", "data_folders"])
def test_a_folder_with_the_clients_key_in_it_is_not_shown_to_packages(tmp_path: Path, name: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    value = [link] if name == "data_folders" else str(link)
    found = faults(tmp_path, isolation="docker", isolation_image="x", **{name: value})
    assert found == {("keys_exposed", name)}


def test_paths_are_absolute_before_a_container_sees_them(tmp_path: Path) -> None:
    given = settings(tmp_path, isolation="docker", isolation_image="x", data_folders=[Path("here")])
    assert given.anchored().data_folders == [Path("here").absolute()]
