"""The script that makes Docker usable for tests: what it takes from this machine, and what it leaves alone."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "docker_engine.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_engine", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pips_settings_come_along_but_no_path_of_this_machine(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example.org/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///somewhere/simple https://more.example.org/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere/wheels")
    lines = script.pip_settings().splitlines()
    assert lines[0] == "[global]"
    assert "index-url = https://index.example.org/simple" in lines
    assert "extra-index-url = https://more.example.org/simple" in lines
    assert "somewhere" not in "".join(lines)


def test_only_the_engine_that_it_started_is_stopped(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noted = tmp_path / "dockerd.pid"
    monkeypatch.setattr(script, "PID", noted)
    script.stop_engine()  # none was started
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        noted.write_text(str(other.pid))
        script.stop_engine()
        assert other.poll() is None and not noted.exists()
        other.communicate(b"\n", timeout=60)
    assert other.returncode == 0


def test_where_docker_is_not_wanted_the_command_runs_all_the_same() -> None:
    command = [sys.executable, str(SCRIPT), "run", sys.executable, "-c", "print('ran'); raise SystemExit(7)"]
    environment = {**os.environ, "FEDN_SKIP_DOCKER": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (7, "ran\n")
