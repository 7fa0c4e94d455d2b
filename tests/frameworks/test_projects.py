"""The Keras and PyTorch projects train over the real tiers, on small files in the form of MNIST."""

from pathlib import Path

import pytest

from tests.support.image_files import digits_set, write_set
from tests.support.projects import PROJECTS, made_seed, train_project

pytestmark = pytest.mark.frameworks

BOTH = ("mnist-keras", "mnist-pytorch")


@pytest.mark.parametrize("project", BOTH)
def test_the_seed_comes_out_the_same_to_the_byte(project: str, tmp_path: Path) -> None:
    assert made_seed(project, tmp_path) == (PROJECTS / project / "seed" / "seed.safetensors").read_bytes()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("project", BOTH)
def test_sites_with_uneven_images_learn_to_read(project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "datasets" / "fashion-mnist", digits_set())
    monkeypatch.setenv("FEDN_DATASETS_DIR", str(tmp_path / "datasets"))
    validation = train_project(project, tmp_path, rounds=3)
    assert set(validation) == {"accuracy", "loss"}
    # Who guesses gets a tenth.
    assert validation["accuracy"] > 0.6
