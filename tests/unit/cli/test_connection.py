"""Which reducer a command talks to."""

import os
from pathlib import Path

import pytest

from fedn.api.context import Context, read_context, write_context
from fedn.cli.connection import connect
from fedn.protocol.errors import InvalidInput, NotFound

NOTHING = {"url": None, "token": None, "admin_secret": None, "ca": None, "context": None}


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fedn-sandbox").mkdir()
    file = tmp_path / "fedn-sandbox" / "admin.json"
    write_context(file, Context("https://127.0.0.1:8090", None, "the-secret"))
    return file


def test_a_sandbox_in_this_directory_is_found(sandbox: Path) -> None:
    api = connect(**NOTHING)
    assert api.url == "https://127.0.0.1:8090"
    assert api._admin_secret == "the-secret"


def test_the_secret_of_a_context_is_not_for_another_address(sandbox: Path) -> None:
    api = connect(**{**NOTHING, "url": "https://elsewhere:8090", "context": sandbox})
    assert api.url == "https://elsewhere:8090"
    assert api._admin_secret == ""


def test_a_token_weighs_more_than_a_context(sandbox: Path) -> None:
    api = connect(**{**NOTHING, "token": "t"})
    assert (api.token, api._admin_secret) == ("t", "")


def test_a_context_file_is_for_its_owner_only(sandbox: Path) -> None:
    assert os.stat(sandbox).st_mode & 0o777 == 0o600


def test_a_ca_beside_the_context_is_found(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"url": "https://x:1", "ca_file": "ca.crt"}')
    assert read_context(tmp_path / "c.json").ca_file == tmp_path / "ca.crt"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 3}', '{"url": ""}'])
def test_a_broken_context_says_so(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InvalidInput, match="bad_context"):
        read_context(tmp_path / "c.json")


def test_a_missing_context_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no_context_file"):
        connect(**{**NOTHING, "context": tmp_path / "c.json"})
