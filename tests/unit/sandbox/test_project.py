"""What a sandbox takes for a project."""

import json
from pathlib import Path

import pytest

from fedn.cli.new import make_project
from fedn.protocol.errors import FednError, InvalidInput
from fedn.sandbox.project import data_path, open_project
from tests.support.learning import federated_averaging, project_learners, write_partitions


@pytest.mark.parametrize("framework", ["numpy", "sklearn"])
def test_a_new_project_learns(framework: str, tmp_path: Path) -> None:
    make_project(tmp_path / "mine", framework)
    project = open_project(tmp_path / "mine")
    assert project.plan["helper"] == framework
    with project_learners(tmp_path / "mine" / "client", "MineLearner", 3) as learners:
        paths = write_partitions(tmp_path / "sites", 3, 0)
        _, history = federated_averaging(learners, paths, 4, project.plan["parameters"])
    assert history[-1]["accuracy"] > 0.7


def test_a_folder_without_a_package_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no_project") as caught:
        open_project(tmp_path)
    assert "fedn new" in caught.value.fix


def test_a_framework_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path / "mine", "pytorch")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FednError, match="missing_framework") as caught:
        open_project(tmp_path / "mine")
    assert "pip install torch" in caught.value.fix


def test_a_seed_file_is_found(tmp_path: Path) -> None:
    make_project(tmp_path / "mine", "numpy")
    (tmp_path / "mine" / "seed.npz").write_bytes(b"")
    seed = open_project(tmp_path / "mine").seed
    assert seed is not None and seed.name == "seed.npz"
    (tmp_path / "mine" / "seed").mkdir()
    (tmp_path / "mine" / "seed" / "seed.safetensors").write_bytes(b"")
    seed = open_project(tmp_path / "mine").seed
    assert seed is not None and seed.name == "seed.safetensors"


def test_a_client_gets_the_projects_own_data_or_its_partition(tmp_path: Path) -> None:
    make_project(tmp_path / "mine", "numpy")
    project = open_project(tmp_path / "mine")
    made = data_path(project.folder, "client-1", 0, 2, 7, tmp_path / "made")
    assert json.loads((made / "partition.json").read_text()) == {"index": 0, "count": 2, "seed": 7}
    own = tmp_path / "mine" / "data" / "client-1"
    own.mkdir(parents=True)
    assert data_path(project.folder, "client-1", 0, 2, 7, tmp_path / "made") == own
