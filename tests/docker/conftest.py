"""A real Docker engine, and the images of the tests. `make test-docker` starts the engine where there is none.

Where no engine answers these tests fail, unless FEDN_SKIP_DOCKER is set. One run at a time uses the engine: what an
earlier one left there is removed first.
"""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.deployment import BASE_IMAGE, IMAGES, PROJECT, Clone, run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """The engine, for this run alone, without what an earlier run left."""
    if os.environ.get("FEDN_SKIP_DOCKER"):
        pytest.skip("FEDN_SKIP_DOCKER is set")
    asked = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        pytest.fail(f"no Docker engine answers (make test-docker starts one): {asked.stderr.strip()}")
    with Path(tempfile.gettempdir(), "fedn-test-docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_leftovers()
        yield
        remove_leftovers()


def remove_leftovers() -> None:
    """Containers, networks and volumes of this project's tests, by the names of their Compose projects."""
    for kind, remove in (("container", ["rm", "-f"]), ("network", ["rm"]), ("volume", ["rm", "-f"])):
        command = ["docker", kind, "ls", "-q", "--filter", "label=com.docker.compose.project"]
        for name in run([*command, *(["-a"] if kind == "container" else [])]).split():
            labels = ".Config.Labels" if kind == "container" else ".Labels"
            template = "{{index " + labels + " `com.docker.compose.project`}}"
            owner = run(["docker", kind, "inspect", "--format", template, name]).strip()
            if owner == PROJECT or owner.startswith(f"{PROJECT}-"):
                run(["docker", kind, *remove, name])


@pytest.fixture(scope="session")
def images(engine: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment that names images, all built: a real mongod and a real S3 server in the place of a registry's."""
    for name in ("mongo", "s3"):
        folder = HERE / "images" / name
        run(["docker", "build", "-q", "--build-arg", f"BASE={BASE_IMAGE}", "-t", IMAGES[name], str(folder)])
    environment = {
        "FEDN_BASE_IMAGE": BASE_IMAGE,
        "FEDN_IMAGE": IMAGES["fedn"],
        "FEDN_CLIENT_IMAGE": IMAGES["client"],
        "FEDN_MONGO_IMAGE": IMAGES["mongo"],
        "FEDN_MINIO_IMAGE": IMAGES["s3"],
    }
    builder = Clone(tmp_path_factory.mktemp("build"), environment | {"COMPOSE_PROJECT_NAME": PROJECT})
    builder.type("cp .env.example .env")
    builder.compose("build", within_s=1200)
    return environment
