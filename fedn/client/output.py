"""What a child process prints: into the log line by line, the last of it kept for error texts."""

import asyncio
import logging
from collections import deque

_LINE_BYTES = 8192
_TAIL_LINES = 40


class Output:
    """Reads a child's output to its end, whatever it prints.

    Args:
        logger: where lines go, as INFO.
        limit_bytes: > 0; what comes after so many bytes since the last `reset` is dropped, but for the tail.
    """

    def __init__(self, logger: logging.Logger, limit_bytes: int) -> None:
        self._logger = logger
        self._limit_bytes = limit_bytes
        self._logged_bytes = 0
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def reset(self) -> None:
        """A new task begins: its output is counted from here."""
        self._logged_bytes = 0
        self._tail.clear()

    @property
    def tail(self) -> str:
        """The last lines, at most about 2,000 characters."""
        return "\n".join(self._tail)[-2000:]

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Until the child closes its output."""
        rest = b""
        while data := await stream.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line)
            if len(rest) > _LINE_BYTES:
                self._take(rest)
                rest = b""
        if rest:
            self._take(rest)

    def _take(self, line: bytes) -> None:
        text = line[:_LINE_BYTES].decode(errors="replace").rstrip()
        if not text:
            return
        self._tail.append(text)
        if self._logged_bytes > self._limit_bytes:
            return
        self._logged_bytes += len(line) + 1
        if self._logged_bytes > self._limit_bytes:
            self._logger.warning("more than %d bytes of output: the rest is not logged", self._limit_bytes)
        else:
            self._logger.info("%s", text)
