"""`fedn new` for PyTorch and Keras: the project learns."""

from pathlib import Path

import pytest

from fedn.cli.new import make_project
from fedn.sandbox.project import open_project
from tests.support.learning import federated_averaging, project_learners, write_partitions

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_a_new_project_learns(framework: str, tmp_path: Path) -> None:
    make_project(tmp_path / "mine", framework)
    project = open_project(tmp_path / "mine")
    with project_learners(tmp_path / "mine" / "client", "MineLearner", 3) as learners:
        paths = write_partitions(tmp_path / "sites", 3, 0)
        _, history = federated_averaging(learners, paths, project.plan["rounds"], project.plan["parameters"])
    assert history[-1]["accuracy"] > 0.7
