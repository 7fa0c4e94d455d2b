"""Log lines for people and machines: fields, one record a line, and no secrets."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import jwt
import pytest

from fedn.plan.logs import LogFormat, bind, configure_logging
from fedn.protocol.errors import Conflict, InvalidInput


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("fedn")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(format: LogFormat = "human", level: str = "info", secrets: tuple[str, ...] = ()) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, format, secrets=secrets, stream=stream)
    return stream


def test_human_line_carries_the_fields() -> None:
    stream = configured()
    bind("fedn.test", session="s 1").bind(round=3).info("closed with %d updates", 5, extra={"client": "c1"})
    line = stream.getvalue()
    assert line.endswith(' INFO fedn.test: closed with 5 updates  session="s 1" round=3 client=c1\n')
    assert "\x1b" not in line


def test_json_line_carries_the_fields_and_the_error_code() -> None:
    stream = configured("json")
    try:
        raise Conflict("session_running", "a session runs")
    except Conflict:
        bind("fedn.test", session="s1", round=3).exception("refused")
    line = json.loads(stream.getvalue())
    assert {key: line[key] for key in ("level", "logger", "message", "session", "round", "code")} == {
        "level": "error",
        "logger": "fedn.test",
        "message": "refused",
        "session": "s1",
        "round": 3,
        "code": "session_running",
    }
    assert "Traceback" in line["exception"] and line["time"].endswith("+00:00")


def test_field_cannot_replace_what_the_record_itself_says() -> None:
    stream = configured("json")
    bind("fedn.test", level="debug", message="other").warning("mine")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"]) == ("warning", "mine")


@pytest.mark.parametrize("format", ["human", "json"])
def test_secrets_are_hidden_wherever_they_stand(format: LogFormat) -> None:
    token = jwt.encode({"sub": "a", "role": "admin"}, "k" * 32, algorithm="HS256")
    pem = "-----BEGIN PRIVATE KEY-----\nMIGH\nabc\n-----END PRIVATE KEY-----"
    stream = configured(format, secrets=("own-secret-1", "x"))
    log = bind("fedn.test", url="mongodb://user:pass-word@host:1/")
    log.info("header Authorization: Bearer abc.def and %s", token, extra={"key": pem, "secret": "own-secret-1"})
    try:
        raise ValueError("in an error: fedn1.AbCdEf-_ and own-secret-1")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    for secret in (token, "abc.def", "MIGH", "pass-word", "own-secret-1", "AbCdEf"):
        assert secret not in text
    assert "user:[hidden]@host" in text and "Bearer [hidden]" in text and "failed" in text


def test_text_from_elsewhere_can_neither_forge_a_line_nor_drive_the_terminal() -> None:
    stream = configured()
    bind("fedn.test").warning("client said: %s", "x\n2026-01-01 INFO fedn: forged\r\x1b[2J\u2028")
    _, second = stream.getvalue().splitlines()
    assert second == "    2026-01-01 INFO fedn: forged\\r\\x1b[2J\\u2028"


def test_colour_is_for_terminals_only() -> None:
    terminal = Terminal()
    configure_logging("info", stream=terminal)
    bind().error("bad")
    assert "\x1b[31m" in terminal.getvalue()


def test_level_applies_to_fedn_and_libraries_are_heard_from_warning_on() -> None:
    stream = configured(level="info")
    logging.getLogger("fedn.x").debug("one")
    logging.getLogger("fedn.x").info("two")
    logging.getLogger("library").info("three")
    logging.getLogger("library").warning("four")
    assert [line.rsplit(" ", 1)[1] for line in stream.getvalue().splitlines()] == ["two", "four"]
    stream = configured(level="debug")
    logging.getLogger("library").debug("five")
    assert "five" in stream.getvalue()


def test_second_configuration_replaces_the_first() -> None:
    first = configured()
    second = configured()
    bind().info("once")
    assert not first.getvalue() and second.getvalue().count("once") == 1


def test_unknown_level_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bad_log_level"):
        configure_logging("loud", stream=sys.stderr)
