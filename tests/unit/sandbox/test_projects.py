"""The projects in test-projects: their packages hold code alone, and their seeds come out the same each time."""

import io
import sys
import tarfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fedn.models.files import read_tensors
from fedn.plan.package import build_package, inspect_package
from fedn.plan.plan_file import make_plan, read_plan
from tests.support.projects import PROJECTS, made_seed

ALL = ("data-center", "digits", "digits-forest", "mnist-keras", "mnist-pytorch")
"""Those that are compute packages."""
OTHERS = {
    "decentralized-digits": "tests/integration/workers/test_decentralized_digits.py",
    "node-client": "tests/node",
}
"""Further ones, and where their tests are."""
SEED_BYTES = {"digits-forest": 1_000_000}
"""A forest without trees is room for them, all zero: a repository keeps it in a few kilobytes."""


def test_every_project_is_tested_here() -> None:
    # Links are names of FEDn for the same projects.
    folders = [path.name for path in PROJECTS.iterdir() if path.is_dir() and not path.is_symlink()]
    assert sorted(folders) == sorted([*ALL, *OTHERS])
    assert all((PROJECTS.parent / tests).exists() for tests in OTHERS.values())


@pytest.mark.parametrize("project", ALL)
def test_a_project_has_the_shape_of_a_project(project: str) -> None:
    folder = PROJECTS / project
    package = build_package(folder / "client")
    manifest = inspect_package(package)
    assert manifest.name == project
    assert manifest.command("build") == ["python", "init_model.py"]
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        assert all(Path(name).suffix in {".py", ".yaml"} for name in archive.getnames())
    plan = make_plan(read_plan(folder / "plan.yaml"), source=project)
    assert plan.helper == manifest.helper
    seed = folder / "seed" / "seed.safetensors"
    assert read_tensors(seed) and seed.stat().st_size < SEED_BYTES.get(project, 100_000)
    assert f"fedn sandbox --project test-projects/{project}" in (folder / "README.md").read_text()


@pytest.mark.parametrize("project", ["data-center", "digits", "digits-forest"])
def test_the_seed_comes_out_the_same_to_the_byte(project: str, tmp_path: Path) -> None:
    assert made_seed(project, tmp_path) == (PROJECTS / project / "seed" / "seed.safetensors").read_bytes()


@pytest.fixture
def model() -> Iterator[ModuleType]:
    """The data-center project's network."""
    sys.path.insert(0, str(PROJECTS / "data-center" / "client"))
    sys.modules.pop("data", None)
    try:
        yield import_module("model")
    finally:
        sys.path.remove(str(PROJECTS / "data-center" / "client"))
        sys.modules.pop("model")
        sys.modules.pop("data")


def test_the_gradients_of_the_data_center_network_are_those_of_its_loss(model: ModuleType) -> None:
    draw = np.random.default_rng(0)
    features, power = draw.normal(size=(7, 6)), draw.normal(size=7)
    weights = {name: array.astype(np.float64) for name, array in model.new_weights(0).items()}
    _, slopes = model.gradients(weights, features, power)
    for name, array in weights.items():
        for place in np.ndindex(array.shape):
            losses = []
            for step in (1e-6, -1e-6):
                moved = weights | {name: array.copy()}
                moved[name][place] += step
                losses.append(model.gradients(moved, features, power)[0])
            assert slopes[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5, abs=1e-8)
