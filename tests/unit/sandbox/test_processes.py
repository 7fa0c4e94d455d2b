"""Programs of a sandbox: environment, end, log."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from fedn.sandbox.processes import Program, end_all
from tests.support.federation import wait_for


def run(tmp_path: Path, *arguments: str, environ: dict[str, str] | None = None) -> tuple[Program, threading.Event]:
    ended = threading.Event()
    program = Program(
        "reducer", arguments, log=tmp_path / "r.log", environ=environ or {}, on_exit=lambda program: ended.set()
    )
    return program, ended


def test_a_program_that_fails_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, ended = run(tmp_path, "status")
    assert ended.wait(60)
    error = program.as_error()
    assert program.how_it_ended() == "exit status 2"
    assert "no_reducer_named" in error.message
    assert str(tmp_path / "r.log") in error.fix


def test_settings_of_this_environment_do_not_reach_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDN_URL", "https://127.0.0.1:9")
    program, ended = run(tmp_path, "status")
    assert ended.wait(60)
    assert "no_reducer_named" in program.tail()


def test_where_data_sets_are_does_reach_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_DATASETS_DIR", "/data/sets")
    monkeypatch.setenv("FEDN_DATA_DIR", "/data/other")
    program, _ = run(tmp_path, "events", "--follow", "--url", "https://127.0.0.1:9", "--token", "t")
    # It becomes another program more than once, and in those moments its environment reads as empty.
    environ = wait_for(lambda: psutil.Process(program.pid).environ(), "the program's environment can be read")
    program.end(time.monotonic())
    assert environ["FEDN_DATASETS_DIR"] == "/data/sets"
    assert "FEDN_DATA_DIR" not in environ


def test_ending_a_program_twice_does_no_harm(tmp_path: Path) -> None:
    program, ended = run(tmp_path, "--version")
    assert ended.wait(60)
    end_all([[program], [program]], within_s=1)
    assert program.status == 0


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    program, ended = run(tmp_path, "events", "--follow", "--url", "https://127.0.0.1:9", "--token", "t")
    program.end(time.monotonic())
    assert ended.is_set()
    assert "SIGKILL" in program.how_it_ended()
