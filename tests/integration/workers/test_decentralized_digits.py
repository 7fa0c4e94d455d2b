"""The project decentralized-digits reaches the accuracy that its README states, at every worker, without a server."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.projects import PROJECTS
from tests.support.sandboxes import clean_environment

PROJECT = PROJECTS / "decentralized-digits"
WORKERS = 6


def test_every_worker_comes_to_read_the_digits_as_the_readme_says(tmp_path: Path) -> None:
    stated = re.search(r"more than (\d+) %", (PROJECT / "README.md").read_text())
    assert stated is not None
    command = [sys.executable, "-m", "fedn.cli.main", "worker", "run", str(PROJECT / "train.py"), "-n", str(WORKERS)]
    done = subprocess.run(
        [*command, "--topology", "asymmetric", "--logs", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env=clean_environment() | {"OPENBLAS_NUM_THREADS": "1"},  # six processes share the machine
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = re.findall(r"PushSumWorker: (\d+) images of (\d+) digits, accuracy ([\d.]+)", done.stdout)
    assert len(results) == WORKERS
    assert min(float(accuracy) for _, _, accuracy in results) > int(stated[1]) / 100
    assert sum(int(images) for images, _, _ in results) == 1797 - 360
    assert min(int(digits) for _, digits, _ in results) < 10
