"""The command line as a whole: help, failures, exit statuses."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fedn.cli.failures import Status, report, status_of
from fedn.cli.main import COMMANDS, root, run
from fedn.protocol.errors import (
    Conflict,
    FednError,
    IntegrityError,
    InvalidInput,
    InvalidSettings,
    NotFound,
    Unauthenticated,
    Unavailable,
)


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        found.append(path)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, (*path, name))

    walk(root, ())
    return found


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: fedn")
    assert len(text.splitlines()) > 4


def test_the_commands_that_people_expect_are_there() -> None:
    expected = {
        "sandbox", "reducer start", "combiner start", "client start", "run reducer", "run combiner", "run client",
        "client preflight", "package create", "package upload", "package list", "model seed", "model list",
        "model download", "session start", "session list", "session show", "session stop", "trail show",
        "trail verify", "store gc", "token create", "new", "completion",
    }  # fmt: skip
    assert expected <= {" ".join(path) for path in every_command()}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fedn.cli.main import run; run(['--help'])\n"
        "heavy = {'numpy', 'pydantic', 'grpc', 'rich', 'flask', 'urllib3', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_is_quick() -> None:
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "fedn.cli.main", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor seconds, the best of some: this machine has other things to do, too.
    assert min(once() for _ in range(5)) < 0.3


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sessions"]) == Status.USAGE
    assert "session" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("a", "a"), 2),
        (Unauthenticated("a", "a"), 3),
        (NotFound("a", "a"), 4),
        (Conflict("a", "a"), 5),
        (Unavailable("a", "a"), 6),
        (IntegrityError("a", "a"), 7),
        (FednError("a", "a"), 1),
    ],
)
def test_scripts_can_tell_failures_apart(error: FednError, status: int) -> None:
    assert status_of(error) == status


def test_a_failure_says_what_where_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    report(NotFound("no_such_session", "there is none", fix="Start one.", where={"session": "s-1"}), as_json=False)
    text = capsys.readouterr().err
    assert "there is none (session s-1)" in text
    assert "fix: Start one." in text
    assert "[no_such_session]" in text


def test_all_faults_of_a_configuration_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    faults: list[FednError] = [InvalidInput("one", "first", fix="Fix one."), InvalidInput("two", "second")]
    assert report(InvalidSettings(faults, what="The plan"), as_json=False) == Status.USAGE
    text = capsys.readouterr().err
    assert "first" in text and "Fix one." in text and "second" in text


def test_with_json_a_failure_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    report(Conflict("session_running", "one runs"), as_json=True)
    assert json.loads(capsys.readouterr().err)["code"] == "session_running"


def test_without_a_reducer_the_first_step_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["status"]) == Status.USAGE
    text = capsys.readouterr().err
    assert "no_reducer_named" in text and "fedn sandbox" in text


def test_bad_settings_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        run(["client", "start", "--join", "nonsense", "--task-timeout-s", "-1", "--no-trainer", "--no-validator"]) == 2
    )
    text = capsys.readouterr().err
    assert "task_timeout_s" in text and "--task-timeout-s" in text
    assert "no_work" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_FEDN_COMPLETE" in capsys.readouterr().out


def test_the_modules_of_all_commands_exist() -> None:
    context = click.Context(root)
    assert all(root.get_command(context, name) is not None for name in COMMANDS)
