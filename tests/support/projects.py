"""The projects in test-projects, as a user has them: their packages, seeds and a short session over the real tiers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from fedn.models.digest import digest
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import DEFAULT_PROJECT, open_project
from tests.support.sandboxes import clean_environment

PROJECTS = DEFAULT_PROJECT.parent


def made_seed(project: str, folder: Path) -> bytes:
    """What the project's init_model.py writes now."""
    target = folder / "seed.safetensors"
    done = subprocess.run(
        [sys.executable, str(PROJECTS / project / "client" / "init_model.py"), str(target)],
        capture_output=True,
        text=True,
        timeout=200,
        env=clean_environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    return target.read_bytes()


def train_project(project: str, folder: Path, *, rounds: int, seed_from_client: bool = False) -> dict[str, float]:
    """Trains a project with two clients, from its seed or from what a client makes, which must be the same.

    Returns:
        The last model's metrics, mean over the sites by examples.
    """
    options = SandboxOptions(clients=2, combiners=1, data_dir=folder / "sandbox")
    opened = open_project(PROJECTS / project)
    seed = PROJECTS / project / "seed" / "seed.safetensors"
    assert opened.seed == seed
    if seed_from_client:
        opened = replace(opened, seed=None)
    with Sandbox(opened, options) as sandbox:
        sandbox.start()
        *_, last = sandbox.follow(sandbox.begin_session(sandbox.plan(rounds=rounds)))
        assert (last.state, last.rounds_done) == ("finished", rounds), last.notes
        trail = sandbox.api.verify_trail()
        assert trail.length == rounds + 1
        first = min(sandbox.api.models(), key=lambda model: model.index)
        assert (first.kind, first.model_id) == ("seed", digest(seed.read_bytes()))
        newest = sandbox.api.model(max(sandbox.api.models(), key=lambda model: model.index).model_id)
        assert newest.num_validations == 2
        return dict(newest.validation)
