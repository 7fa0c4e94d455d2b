"""What `fedn sandbox` tells people."""

import os
import sys
from pathlib import Path

import pytest

from fedn.cli.sandbox import _say_how_to_go_on, _this_program, default_data_dir


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `fedn` in a virtual environment, called by its path."""
    path = tmp_path / ".venv" / "bin" / "fedn"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/fedn", "sandbox"])
    return path


def test_a_program_that_the_shell_would_not_find_is_named_by_its_path(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert _this_program() == ".venv/bin/fedn"
    monkeypatch.setenv("PATH", str(program.parent))
    assert _this_program() == "fedn"


def test_the_last_lines_say_how_to_log_in_and_why_the_browser_warns(capsys: pytest.CaptureFixture[str]) -> None:
    _say_how_to_go_on("https://127.0.0.1:8090", Path("elsewhere"))
    text = capsys.readouterr().out
    assert "https://127.0.0.1:8090" in text and "certificate" in text and "elsewhere/admin.json" in text
    assert "fedn token create --context elsewhere/admin.json --role viewer" in text


def test_projects_do_not_share_a_federation_unless_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert default_data_dir(None) == Path("fedn-sandbox")
    assert default_data_dir(Path("../test-projects/digits-forest/")) == Path("fedn-sandbox-digits-forest")
    assert default_data_dir(Path()) == Path("fedn-sandbox-mine")
