"""The commands on the pages about benchmarks are ones that they take, and every benchmark is on one of them."""

import re
import shlex
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import BENCHMARKS, ON_REQUEST, load, main

ROOT = Path(benchmarks.__file__).resolve().parent.parent
PAGES = "\n".join((ROOT / "docs" / name).read_text() for name in ("performance.md", "convergence.md"))
_COMMAND = re.compile(r'^make (?P<target>bench|bench-peers) ARGS=(?P<args>"(?:[^"\\]|\\.)*")$', re.MULTILINE)


def commands() -> list[list[str]]:
    """Their arguments, as the shell hands them to make, and make's own shell to the benchmark."""
    found = []
    for match in _COMMAND.finditer(PAGES):
        (text,) = shlex.split(match["args"])
        found.append([*(["peers"] if match["target"] == "bench-peers" else []), *shlex.split(text)])
    return found


COMMANDS = commands()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_pages_is_understood(command: list[str]) -> None:
    load(command[0]).parse(command[1:])


def test_no_command_of_the_pages_is_overlooked() -> None:
    assert len(COMMANDS) == sum(line.startswith(("make bench ", "make bench-peers ")) for line in PAGES.splitlines())


def test_the_pages_have_a_command_for_every_benchmark() -> None:
    assert {command[0] for command in COMMANDS} == {*BENCHMARKS, *ON_REQUEST}


@pytest.mark.parametrize("name", [*BENCHMARKS, "peers", "convergence"])
def test_results_of_every_benchmark_can_be_kept(name: str) -> None:
    assert load(name).parse(["--out", "file.jsonl"]).out == Path("file.jsonl")


def test_a_benchmark_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "there is no benchmark 'nonsense'" in capsys.readouterr().err
