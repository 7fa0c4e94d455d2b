"""The client in JavaScript in a real federation. Run with `make test-node`, which says what is missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "test-projects" / "node-client"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with its packages installed, as its README says."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    assert not missing, f"{' and '.join(missing)} not found: install Node.js 18.20 or newer (Debian: nodejs and npm)"
    copy = tmp_path_factory.mktemp("node") / "node-client"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=copy, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"npm ci failed: is there a package registry?\n{done.stdout}\n{done.stderr}"
    return copy
