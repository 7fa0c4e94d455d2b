"""The documentation builds without a warning: no dead link, no dead anchor."""

import subprocess
import sys
from pathlib import Path

import fedn

ROOT = Path(fedn.__file__).resolve().parent.parent


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "errors" / "index.html").exists()
