"""The commands on the page about performance are ones that the benchmarks take, and every benchmark is on it."""

import re
import shlex
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import BENCHMARKS, ON_REQUEST, load, main

ROOT = Path(benchmarks.__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "performance.md").read_text()
COMMANDS = [shlex.split(text) for text in re.findall(r'^make bench ARGS="([^"]+)"$', PAGE, re.MULTILINE)]
COMMANDS += [
    ["peers", *shlex.split(text)] for text in re.findall(r'^make bench-peers ARGS="([^"]+)"$', PAGE, re.MULTILINE)
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_is_understood(command: list[str]) -> None:
    load(command[0]).parse(command[1:])


def test_the_page_has_a_command_for_every_benchmark() -> None:
    assert {command[0] for command in COMMANDS} == {*BENCHMARKS, *ON_REQUEST}


@pytest.mark.parametrize("name", [*BENCHMARKS, "peers"])
def test_results_of_every_benchmark_can_be_kept(name: str) -> None:
    assert load(name).parse(["--out", "file.jsonl"]).out == Path("file.jsonl")


def test_a_benchmark_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "there is no benchmark 'nonsense'" in capsys.readouterr().err
