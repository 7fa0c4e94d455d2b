"""Loggers are found by their names; what a logger needs is named where it is missing."""

import importlib.metadata

import pytest

from fedn.loggers import base
from fedn.loggers.base import GROUP, get_logger
from fedn.protocol.errors import InvalidInput


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_our_own_loggers_are_found_by_name(name: str) -> None:
    assert callable(get_logger(name).open)


def test_a_name_that_nobody_declares_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"mlflow, tensorboard.*\[unknown_option\]"):
        get_logger("abacus")


def declared(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    entries = [importlib.metadata.EntryPoint("mlflow", value, GROUP) for value in values]

    monkeypatch.setattr(base, "entry_points", lambda **_: entries)


def test_a_logger_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    declared(monkeypatch, "no_such_package_at_all:Logger")
    with pytest.raises(InvalidInput, match=r"pip install 'fedn\[mlflow\]'.*\[broken_option\]"):
        get_logger("mlflow")


def test_a_name_that_two_packages_declare_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    declared(monkeypatch, "one:Logger", "two:Logger")
    with pytest.raises(InvalidInput, match="ambiguous_option"):
        get_logger("mlflow")
