"""A session on the terminal."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fedn.api.progress import RoundLine, SessionProgress
from fedn.cli.progress import show_session


def session(rounds: int, *, state: str = "finished") -> Iterator[SessionProgress]:
    """Each round is committed, and validated while the next one trains."""
    progress = SessionProgress("s", rounds=rounds)
    yield progress
    for index in range(rounds):
        progress.lines[index] = RoundLine(index, f"m{index}", 5, {"train_loss": 0.5}, 310.0)
        yield progress
        progress.lines[index].validation = {"loss": 0.5 - index / 10, "accuracy": 0.8 + index / 100}
        progress.lines[index].validations = 5
        yield progress
    progress.state = state
    yield progress


def test_each_round_has_one_line_with_its_validation(capsys: pytest.CaptureFixture[str]) -> None:
    show_session(session(3))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["round", "accuracy", "loss", "clients", "time"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["1/3", "0.8000", "0.5000"],
        ["2/3", "0.8100", "0.4000"],
        ["3/3", "0.8200", "0.3000"],
    ]


def test_a_session_without_validation_shows_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    progress = SessionProgress("s", rounds=1)
    progress.lines[0] = RoundLine(0, "m", 2, {"train_loss": 0.25}, 10.0)
    progress.state = "finished"
    show_session([progress])
    assert "0.2500" in capsys.readouterr().out


def test_training_is_shown_at_once_where_the_plan_has_no_validation(capsys: pytest.CaptureFixture[str]) -> None:
    def updates() -> Iterator[SessionProgress]:
        progress = SessionProgress("s", rounds=2)
        progress.validated = False
        progress.lines[0] = RoundLine(0, "m", 2, {"train_loss": 0.25}, 10.0)
        yield progress
        assert "1/2        0.2500" in capsys.readouterr().out

    show_session(updates())


def test_a_round_that_nobody_could_validate_does_not_hide_the_metrics_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = SessionProgress("s", rounds=4)
    for index in range(4):
        progress.lines[index] = RoundLine(index, f"m{index}", 5, {"train_loss": 0.5}, 310.0)
    progress.lines[3].validation, progress.lines[3].validations = {"accuracy": 0.9, "loss": 0.25}, 5
    progress.state = "finished"
    show_session([progress])
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["round", "accuracy", "loss"]
    assert lines[1] == ["1/4", "-", "-"] and lines[4] == ["4/4", "0.9000", "0.2500"]


def test_what_goes_wrong_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = SessionProgress("s", rounds=1)
    progress.notes.append("round 1: client-2 failed: ValueError: [bold] is no markup")
    show_session([progress, progress])
    assert capsys.readouterr().out.count("ValueError: [bold] is no markup") == 1


def test_on_a_terminal_the_bar_goes_and_the_lines_stay() -> None:
    code = (
        "from tests.unit.cli.test_progress import session\n"
        "from fedn.cli.progress import show_session\n"
        "show_session(session(2))\n"
    )
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=child, stderr=child, env=environment)
    os.close(child)
    output = b""
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while piece := os.read(parent, 4096):
            output += piece
    os.close(parent)
    assert process.wait(timeout=60) == 0
    text = output.decode()
    assert text.count("1/2") >= 1 and text.count("0.8100") == 1, text
