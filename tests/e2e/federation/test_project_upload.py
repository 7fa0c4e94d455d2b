"""`fedn project upload`: a package and a seed for a federation that has none, and nothing twice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fedn.sandbox.project import DEFAULT_PROJECT
from tests.support.federation import Federation


def upload(federation: Federation, folder: Path, *flags: str) -> dict[str, Any]:
    context = federation.folder / "reducer" / "admin.json"
    command = [sys.executable, "-m", "fedn.cli.main", "project", "upload", str(folder), "--context", str(context)]
    done = subprocess.run([*command, "--json", *flags], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_project_is_uploaded_with_its_seed_and_left_alone_afterwards(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "client").mkdir(parents=True)
    (other / "client" / "fedn.yaml").write_text("name: other\nlearner: learner:Other\nhelper: sklearn\n")
    (other / "client" / "learner.py").write_text("class Other: ...\n")
    with Federation(tmp_path, combiners=0, clients=0) as federation:
        first = upload(federation, DEFAULT_PROJECT, "--once")
        assert first["uploaded"] and first["seed_model_id"]
        status = federation.api.status()
        assert (status.package_id, status.model_id) == (first["package_id"], first["seed_model_id"])

        again = upload(federation, other, "--once")
        assert again == {"package_id": first["package_id"], "uploaded": False, "seed_model_id": None}
        assert federation.api.status().package_id == first["package_id"]

        forced = upload(federation, other)
        assert forced["uploaded"] and forced["package_id"] != first["package_id"]
        assert federation.api.status().package_id == forced["package_id"]
        assert federation.api.status().trail_length == 1
