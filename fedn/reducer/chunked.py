"""Reads a request's body that comes in chunks (HTTP/1.1), never more of it than was asked for.

cheroot's own reader takes a whole chunk into memory, however large the peer says that it is.
"""

import io
import re
from typing import Protocol

from werkzeug.exceptions import ClientDisconnected

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\r\n]*)?\r?\n")
_MAX_LINE_BYTES = 4096
_MAX_TRAILERS = 100


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...


class ChunkedBody(io.RawIOBase):
    """The bytes of a body; ClientDisconnected where it breaks off or is no chunked body."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._left = 0
        """Bytes of the current chunk that were not read yet."""
        self.ended = False
        """Whether the body was read to its end."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        if not self._left and not self.ended:
            self._begin_chunk()
        if self.ended:
            return 0
        data = self._source.read(min(self._left, len(buffer)))
        if not data:
            raise ClientDisconnected
        buffer[: len(data)] = data
        self._left -= len(data)
        if not self._left and self._source.readline(3) not in {b"\r\n", b"\n"}:
            raise ClientDisconnected
        return len(data)

    def _begin_chunk(self) -> None:
        size = _SIZE.fullmatch(self._source.readline(_MAX_LINE_BYTES))
        if size is None:
            raise ClientDisconnected
        self._left = int(size[1], 16)
        if not self._left:
            self._pass_trailers()
            self.ended = True

    def _pass_trailers(self) -> None:
        for _ in range(_MAX_TRAILERS):
            if self._source.readline(_MAX_LINE_BYTES) in {b"\r\n", b"\n", b""}:
                return
        raise ClientDisconnected
