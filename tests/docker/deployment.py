"""What the tests of containers share: a copy of the repository as a user has it, and `docker-compose` in it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from fedn import APIClient

ROOT = Path(__file__).parents[2]
PROJECT = "fedntest"
"""Begins the name of every Compose project of the tests."""
BASE_IMAGE = "fedn-base:local"
IMAGES = {
    "fedn": "fedn-test:local",
    "client": "fedn-test-client",
    "mongo": "fedn-test-mongo:local",
    "s3": "fedn-test-s3:local",
}
ADDRESS = "127.99.0.1"
"""Where ports are published: of this machine's own, and of nobody else's 127.0.0.1."""
CONSOLE_PORT = "29001"
_COPIED = ("compose", "fedn", "test-projects", "Dockerfile", ".dockerignore", ".env.example", "pyproject.toml")
_COPIED += ("README.md", "LICENSE")
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, within_s: int = 900) -> str:
    """A command's standard output; it must succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done.stdout


class Clone:
    """The repository as a user has it, in a folder of its own; `docker-compose` and other commands in it.

    Args:
        environment: weighs more than `.env`: images, and where ports are published.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FEDN_", "ALLIANCE_", "COMPOSE_"))}
        self.environment = {**inherited, **environment}
        folder.mkdir(parents=True, exist_ok=True)
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, symlinks=True, ignore=_IGNORED)
            else:
                shutil.copy2(source, folder / name)

    def type(self, line: str, within_s: int = 900) -> str:
        """Runs a line as somebody would type it in this folder; its standard output."""
        return run(["bash", "-ec", line], cwd=self.folder, env=self.environment, within_s=within_s)

    def compose(self, *arguments: str, within_s: int = 900) -> str:
        return run(["docker-compose", *arguments], cwd=self.folder, env=self.environment, within_s=within_s)

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers that run."""
        return [container for container in self.compose("ps", "-q", service).split() if inspect(container)["running"]]

    def logs(self) -> str:
        """The end of what our own programs said."""
        known = {"reducer", "combiner", "combiner2", "client", "project"}
        services = sorted(known & set(self.compose("config", "--services").split()))
        done = subprocess.run(
            ["docker-compose", "logs", "--no-color", "--tail", "25", *services],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout


def inspect(container: str) -> dict[str, Any]:
    """What the tests want to know of a container: running, health, environment, user, network addresses, mounts."""
    found = json.loads(run(["docker", "inspect", container]))[0]
    state = found["State"]
    return {
        "running": state["Running"],
        "health": state.get("Health", {}).get("Status", ""),
        "environment": dict(line.split("=", 1) for line in found["Config"]["Env"]),
        "restarts": found["RestartCount"],
        "networks": list(found["NetworkSettings"]["Networks"]),
    }


def api_of(clone: Clone, url: str, admin_secret: str) -> APIClient:
    """The reducer as this machine sees it; its authority is read from the volume that sites trust."""
    authority = clone.folder / "ca.crt"
    authority.write_text(clone.compose("exec", "-T", "reducer", "cat", "/trust/ca.crt"))
    return APIClient(url, ca=authority, admin_secret=admin_secret)
