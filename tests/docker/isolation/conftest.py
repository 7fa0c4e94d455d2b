"""The image that packages run in, built from this repository, and packages made of a few lines."""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.calls import TaskCall, TaskOutcome
from fedn.client.isolation.engine import LABEL
from fedn.client.runtimes import Runtimes
from fedn.models.wire import encode
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskKind, TaskSpec

ROOT = Path(__file__).parents[3]
BASE = os.environ.get("FEDN_BASE_IMAGE", "fedn-base:local")
IMAGE = "fedn-test-isolation:local"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr[-3000:]}"
    return done.stdout


def containers_of(data_dir: Path) -> list[str]:
    """Ids of the containers, also ended ones, of the client with a data directory."""
    return docker("ps", "-aq", "--no-trunc", "--filter", f"label={LABEL}={data_dir}").split()


@pytest.fixture(scope="session")
def image() -> str:
    """An image with this fedn."""
    if os.environ.get("FEDN_SKIP_DOCKER"):
        pytest.skip("FEDN_SKIP_DOCKER is set")
    docker("build", "-q", "--network", "host", "--build-arg", f"BASE={BASE}", "-t", IMAGE, str(ROOT))
    return IMAGE


@dataclass
class Site:
    """A client that runs packages in containers."""

    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return self.folder / "client"

    @property
    def data_path(self) -> Path:
        return self.folder / "data"

    def settings(self) -> ClientSettings:
        self.data_path.mkdir(exist_ok=True)
        given = {
            "reducer_url": "http://localhost:1",
            "name": "alice",
            "data_dir": self.data_dir,
            "data_path": self.data_path,
            "package": str(self.folder / "package"),
            "isolation": "docker",
            "isolation_image": IMAGE,
            "memory_bytes": 256 << 20,
            "isolation_pids": 64,
        }
        return ClientSettings(**(given | self.changes))

    def package(self, code: str, manifest: str = "entry_points: {train: {command: python3 -B code.py}}\n") -> None:
        """A package: its manifest, and one file. `code` may use json, os, shutil, sys."""
        folder = self.folder / "package"
        folder.mkdir(exist_ok=True)
        (folder / "fedn.yaml").write_text(manifest)
        (folder / "code.py").write_text(f"import json, os, shutil, socket, sys, time\n{code}")

    def learner(self, train: str) -> None:
        """A package with a Learner, whose `train` has this body and adds 1 to what it is given."""
        lines = "\n".join(f"        {line}" for line in train.splitlines())
        self.package(
            f"""
import numpy as np
import fedn

class Plus(fedn.Learner):
    def get_weights(self):
        return {{"w": np.zeros(2, np.float32)}}

    def train(self, weights, context):
{lines}
        return {{name: value + 1 for name, value in weights.items()}}, {{"loss": 0.5}}, {{"num_examples": 3}}
""",
            "learner: code:Plus\n",
        )

    def run(self, *calls: TaskCall) -> list[TaskOutcome | TaskFailed]:
        """What became of tasks, one after another, in one client's life."""

        async def scenario() -> list[TaskOutcome | TaskFailed]:
            async with asyncio.timeout(240):
                runtimes = Runtimes(self.settings(), self.data_dir, fetch_nothing)
                try:
                    await runtimes.start()
                    return [await outcome_of(runtimes, call) for call in calls]
                finally:
                    await runtimes.close()

        return asyncio.run(scenario())


async def outcome_of(runtimes: Runtimes, call: TaskCall) -> TaskOutcome | TaskFailed:
    try:
        runtime = await runtimes.for_task(TaskSpec(task_id=call.task_id, client="alice", kind=call.kind))
        return await runtime.run(call, lambda fraction, metrics: None)
    except TaskFailed as error:
        return error


async def fetch_nothing(package_id: str, kind: Any) -> bytes:
    raise AssertionError("the package is a local one")


def train(**fields: Any) -> TaskCall:
    """A task to train a small model."""
    given: dict[str, Any] = {
        "task_id": "t1",
        "kind": TaskKind.TRAIN,
        "session": "s",
        "round": 2,
        "client": "alice",
        "parameters": {},
        "model": bytes(encode({"w": np.ones(2, np.float32)})),
        "timeout_s": 120.0,
    }
    return TaskCall(**(given | fields))


def failure(outcomes: Sequence[TaskOutcome | TaskFailed]) -> TaskFailed:
    """Of the only task."""
    (outcome,) = outcomes
    assert isinstance(outcome, TaskFailed)
    return outcome


@pytest.fixture
def site(image: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    assert containers_of(made.data_dir) == []
    assert not list((made.data_dir / "isolation").glob("container-*"))
