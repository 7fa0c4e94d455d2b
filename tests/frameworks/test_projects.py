"""The Keras and PyTorch projects train over the real tiers, on small files in the form of MNIST."""

from pathlib import Path

import numpy as np
import pytest

from fedn.client.learner import TaskContext
from tests.support.image_files import digits_set, random_set, write_set
from tests.support.learning import project_learners
from tests.support.projects import PROJECTS, made_seed, train_project

pytestmark = pytest.mark.frameworks

BOTH = ("mnist-keras", "mnist-pytorch")


@pytest.mark.parametrize("project", BOTH)
def test_the_seed_comes_out_the_same_to_the_byte(project: str, tmp_path: Path) -> None:
    assert made_seed(project, tmp_path) == (PROJECTS / project / "seed" / "seed.safetensors").read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras itself
@pytest.mark.parametrize("project", BOTH)
def test_a_repeated_task_gives_the_same_update_and_keeps_to_its_budget(project: str, tmp_path: Path) -> None:
    write_set(tmp_path, random_set())
    context = TaskContext(
        session="s",
        round=0,
        client="me",
        kind="train",
        parameters={"batch_size": 8, "epochs": 2},
        step_budget=10,
        seed=3,
        data_path=tmp_path,
    )
    with project_learners(PROJECTS / project / "client", "MnistLearner", 2) as learners:
        start = learners[0].get_weights()
        (first, _, metadata), (second, _, _) = (
            learner.train({name: array.copy() for name, array in start.items()}, context) for learner in learners
        )
    assert (metadata["num_steps"], metadata["num_examples"]) == (10, 60)
    for name, array in start.items():
        np.testing.assert_array_equal(first[name], second[name])
        assert not np.array_equal(first[name], array)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("project", BOTH)
def test_sites_with_uneven_images_learn_to_read(project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "datasets" / "fashion-mnist", digits_set())
    monkeypatch.setenv("FEDN_DATASETS_DIR", str(tmp_path / "datasets"))
    validation = train_project(project, tmp_path, rounds=3)
    assert set(validation) == {"accuracy", "loss"}
    # Who guesses gets a tenth.
    assert validation["accuracy"] > 0.6
