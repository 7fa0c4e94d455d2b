"""The quickstarts of PyTorch and Keras run as they stand on their page, on small files in the form of Fashion-MNIST."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedn.sandbox.project import DEFAULT_PROJECT
from tests.support.image_files import digits_set, write_set
from tests.support.sandboxes import clean_environment

pytestmark = pytest.mark.frameworks

PAGE = DEFAULT_PROJECT.parent.parent / "docs" / "tutorials" / "quickstarts.md"
BLOCKS = re.findall(r"<!-- frameworks -->\n```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("code", BLOCKS, ids=[re.findall(r"quick-(\w+)", block)[0] for block in BLOCKS])
def test_a_quickstart_learns(code: str, tmp_path: Path) -> None:
    write_set(tmp_path / "datasets" / "fashion-mnist", digits_set())
    fedn = f"{sys.executable} -m fedn.cli.main "
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", re.sub(r"^fedn ", fedn, code, flags=re.MULTILINE)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=350,
        env=clean_environment() | {"FEDN_DATASETS_DIR": str(tmp_path / "datasets"), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("quick-*/statistics.json")
    found = json.loads(file.read_text())["session"]
    assert (found["aggregations"], found["evaluations"]) == (3, 3)
    # Who guesses gets a tenth.
    assert found["models"][-1]["metrics"]["accuracy"] > 0.6
    assert all(client["num_steps"] for each in found["rounds"][1:3] for client in each["clients"])


def test_both_frameworks_have_one() -> None:
    assert len(BLOCKS) == 2
