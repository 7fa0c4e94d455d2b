"""A program that moves models starts again with what the C library must be told before it is loaded, once."""

import os
import sys

import pytest

from fedn.plan import allocator
from fedn.plan.allocator import SERVER, restart_with_allocator, without_allocator


class _ReplacedError(Exception):
    """Stands for the end of this program, of which execve does not return."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environments of programs that were started in place of this one."""
    environments: list[dict[str, str]] = []

    def replace(path: str, command: list[str], environment: dict[str, str]) -> None:
        environments.append(environment)
        raise _ReplacedError

    monkeypatch.setattr(allocator.os, "execve", replace)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in SERVER:
        monkeypatch.delenv(name, raising=False)
    return environments


def test_a_program_starts_again_with_all_that_is_missing(started: list[dict[str, str]]) -> None:
    with pytest.raises(_ReplacedError):
        restart_with_allocator()
    assert started == [{**os.environ, **SERVER}]


def test_what_the_environment_says_already_stays(
    started: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    with pytest.raises(_ReplacedError):
        restart_with_allocator()
    assert started == [{**os.environ, **SERVER, "MALLOC_ARENA_MAX": "8"}]


def test_a_program_that_was_told_goes_on(started: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVER.items():
        monkeypatch.setenv(name, value)
    restart_with_allocator()
    assert started == []


def test_other_peoples_code_gets_none_of_it() -> None:
    assert without_allocator({**SERVER, "HOME": "/home/site"}) == {"HOME": "/home/site"}
