"""Server-sent events: parses the stream, and goes on where it broke. What an event means is the caller's business."""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from urllib3 import BaseHTTPResponse

from fedn.api.replies import api_path, parse_reply
from fedn.api.transport import Transport
from fedn.protocol.errors import FednError
from fedn.protocol.rest import EventView

SILENCE_S = 60.0
"""Seconds without a byte after which a stream counts as broken; the reducer sends a comment more often than that."""

_MAX_LINE_BYTES = 4 << 20
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Message:
    """One server-sent event: its fields as text, "" where absent."""

    id: str
    event: str
    data: str


def parse_messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Messages from a stream's bytes, however they are cut. Comments and unknown fields are left out.

    ValueError where a line is longer than 4 MiB or no UTF-8.
    """
    fields: dict[str, list[str]] = {}
    for raw in _lines(chunks):
        line = raw.decode()
        if not line:
            if "data" in fields:
                last = {name: values[-1] for name, values in fields.items()}
                yield Message(last.get("id", ""), last.get("event", ""), "\n".join(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        *lines, rest = rest.split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {_MAX_LINE_BYTES} bytes")
        yield from (line.removesuffix(b"\r") for line in lines)


def watch_events(
    transport: Transport,
    after: int,
    *,
    patience_s: float,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[EventView]:
    """Events with a number greater than `after`, as they happen, without gaps and without repetition.

    A broken stream is opened again behind the last event seen. The iterator never ends by itself.

    Args:
        patience_s: seconds that the reducer may be away before its error is raised.
        pause, clock: for tests.

    Raises:
        FednError: that repeating does not help (a token refused), or of a reducer away for longer than `patience_s`.
    """
    away_since: float | None = None
    attempt = 0
    while True:
        try:
            for event in _one_stream(transport, after):
                away_since, attempt = None, 0
                after = max(after, event.number)
                yield event
        except FednError as error:
            if not error.retryable:
                raise
            away_since = clock() if away_since is None else away_since
            if clock() - away_since > patience_s:
                raise
        pause(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)] * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
        attempt += 1


def _one_stream(transport: Transport, after: int) -> Iterator[EventView]:
    path = api_path("events")
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    with transport.stream("GET", path, headers=headers, read_timeout_s=SILENCE_S) as answer:
        for message in parse_messages(_chunks(answer)):
            event = parse_reply(EventView, json.loads(message.data), path)
            if event.number > after:
                yield event


def _chunks(answer: BaseHTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read1(1 << 16):
        yield chunk
