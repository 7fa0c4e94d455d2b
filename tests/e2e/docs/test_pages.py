"""The commands on the pages of the documentation work: marked blocks are run against a live sandbox, page by page."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedn as package
from tests.support.sandboxes import clean_environment, running_sandbox

DOCS = Path(package.__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"<!-- run(?P<kind>[a-z ]*) -->\n```(?:bash|python)\n(?P<code>.*?)```", re.DOTALL)
PAGES = [
    "tutorials/getting-started.md",
    "tutorials/quickstarts.md",
    "tutorials/fashion-mnist.md",
    "explanation/rounds.md",
    "explanation/schedulers.md",
    "explanation/aggregation.md",
    "explanation/trail.md",
    "explanation/workers.md",
    "tutorials/workers.md",
    "reference/plan.md",
    "reference/rest.md",
    "reference/cli.md",
    "reference/metrics.md",
    "reference/metisfl.md",
    "how-to/seed-a-model.md",
    "how-to/send-fewer-bytes.md",
    "how-to/keep-clients-updates.md",
    "how-to/add-a-site.md",
    "how-to/run-in-production.md",
    "how-to/run-an-experiment.md",
    "how-to/read-statistics.md",
    "how-to/account-and-export.md",
    "how-to/back-up-and-verify.md",
    "tutorials/your-own-project.md",
    "how-to/use-your-framework.md",
    "how-to/write-a-learner.md",
    "how-to/correct-client-drift.md",
    "how-to/split-data.md",
    "how-to/grow-a-forest.md",
    "how-to/write-a-compute-package.md",
    "how-to/run-workers.md",
    "how-to/load-a-federation.md",
    "how-to/encrypt-updates.md",
]
"""In this order, in one folder: as a reader would go through them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("docs")
    with running_sandbox(place, "--clients", "3", "--combiners", "1", "--rounds", "2") as sandbox:
        sandbox.wait_for("The federation goes on")
        yield place


def test_every_page_with_marked_blocks_is_run() -> None:
    marked = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if BLOCK.search(path.read_text())}
    assert marked == set(PAGES)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(page: str, folder: Path) -> None:
    binaries = Path(sys.executable).parent
    environment = clean_environment() | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    assert shutil.which("fedn", path=environment["PATH"]), "fedn is not installed beside this Python"
    for block in BLOCK.finditer((DOCS / page).read_text()):
        if block["kind"].strip() == "python":
            command = [sys.executable, "-W", "ignore", "-c", block["code"]]
        else:
            command = ["bash", "-euo", "pipefail", "-c", block["code"]]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{block['code']}\n{done.stdout}\n{done.stderr}"
