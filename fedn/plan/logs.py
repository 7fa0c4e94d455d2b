"""Logging of the three programs: human lines or JSON lines on a stream, with structured fields and without secrets.

Standard `logging` underneath, so libraries' records come out the same way. Not for events of a session: those are data,
kept and served by the reducer.
"""

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from fedn.protocol.errors import FednError, InvalidInput

LogFormat = Literal["human", "json"]

LEVELS = ("debug", "info", "warning", "error")
_HIDDEN = "[hidden]"
_SECRETS = re.compile(
    r"(?P<bearer>\bBearer\s+)[^\s\"']+"
    r"|\beyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{1,4000}\.[A-Za-z0-9_-]+"  # a JSON web token
    r"|\bfedn1\.[A-Za-z0-9_-]+"  # a join string
    r"|-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,32}PRIVATE KEY-----|\Z)"
    r"|(?P<url>\b[a-z][a-z0-9+.-]{0,15}://[^\s:/@]{0,200}:)[^\s/@]{1,500}(?=@)",  # the password in a URL
    re.DOTALL,
)
"""Repetitions have bounds, so that no text from elsewhere makes the search slow."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
_MAX_CHARACTERS = 64 * 1024
"""Of one text in a record; what clients send may be longer."""
_SHORTEST_SECRET = 6
"""Characters; hiding shorter ones would blot out ordinary words."""


class FieldLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry fields (session, round, client, …) beside the message."""

    def __init__(self, logger: logging.Logger, fields: dict[str, object]) -> None:
        super().__init__(logger, fields)
        self.fields = fields

    def bind(self, **fields: object) -> "FieldLogger":
        """A logger with these fields too."""
        return FieldLogger(self.logger, {**self.fields, **fields})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        given = kwargs.get("extra") or {}
        return msg, {**kwargs, "extra": {"fields": {**self.fields, **given}}}


def bind(logger: logging.Logger | str = "fedn", /, **fields: object) -> FieldLogger:
    """A logger whose records carry `fields`; those of one record more: `log.info("closed", extra={"round": 3})`."""
    return FieldLogger(logging.getLogger(logger) if isinstance(logger, str) else logger, fields)


def configure_logging(
    level: str = "info", format: LogFormat = "human", *, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Sends the records of all loggers to a stream, replacing what an earlier call set up.

    Args:
        level: debug, info, warning or error. Other packages than fedn are heard from `warning` on, unless it is debug.
        format: `human`: a line a record, coloured on a terminal only; `json`: one JSON object a line.
        secrets: texts that must never appear; tokens, join strings, private keys, passwords in URLs are hidden anyway.
        stream: standard error by default.

    Raises:
        InvalidInput: (`bad_log_level`) no such level.
    """
    if level.lower() not in LEVELS:
        raise InvalidInput("bad_log_level", f"{level!r} is no log level", fix=f"Use one of {', '.join(LEVELS)}.")
    target = sys.stderr if stream is None else stream
    hidden = Hider(secrets)
    handler = _Handler(target)
    handler.setFormatter(JsonFormatter(hidden) if format == "json" else HumanFormatter(hidden, colour=target.isatty()))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))
    logging.getLogger("fedn").setLevel(number)


class _Handler(logging.StreamHandler[TextIO]):
    """Our own handler, told apart from others' at the root."""


class Hider:
    """Replaces secrets in a text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted({text for text in secrets if len(text) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if len(text) > _MAX_CHARACTERS:
            text = f"{text[:_MAX_CHARACTERS]}… ({len(text) - _MAX_CHARACTERS} characters more)"
        known = self._known.sub(_HIDDEN, text) if self._known else text
        return _SECRETS.sub(lambda match: (match["bearer"] or match["url"] or "") + _HIDDEN, known)


class HumanFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.000 INFO fedn.reducer: message  session=s1 round=3`, further lines indented.

    Control characters come out escaped: a text that a client sent cannot forge a line or drive the terminal.
    """

    def __init__(self, hide: Hider, *, colour: bool = False) -> None:
        super().__init__()
        self._hide = hide
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        body = f"{record.getMessage()}{' ' + fields if fields else ''}"
        if trace := _trace(self, record):
            body += "\n" + trace
        body = _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), self._hide(body))
        head = f"{when} {record.levelname}"
        if self._colour and (code := _COLOURS.get(record.levelno)):
            head = f"\x1b[{code}m{head}\x1b[0m"
        return f"{head} {record.name}: " + body.replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the fields, code and exception."""

    def __init__(self, hide: Hider) -> None:
        super().__init__()
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = dict(_fields(record))
        line |= {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and isinstance(record.exc_info[1], FednError):
            line["code"] = record.exc_info[1].code
        if trace := _trace(self, record):
            line["exception"] = trace
        return json.dumps(self._plain(line), ensure_ascii=False, allow_nan=False)

    def _plain(self, value: object) -> object:
        """The value as JSON can say it, without secrets."""
        if isinstance(value, dict):
            return {str(name): self._plain(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(inner) for inner in value]
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        return self._hide(str(value))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _shown(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"[\s=\"]", text) else text
