"""Messages between the agent and its worker process: a JSON head and raw bytes, over a socket pair.

A message is: length of the head (4 bytes, little-endian), length of the payload (8 bytes), the head, the payload.
Both ends belong to one installation, so there is no version in it; it never leaves the machine.
"""

import asyncio
import json
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from pydantic_core import from_json, to_json

INLINE_BYTES = 1 << 14
"""Models up to this size travel in messages; larger ones in files."""

_MAX_HEAD_BYTES = 16 << 20
_HEAD = struct.Struct("<IQ")
_RECEIVE_BYTES = 1 << 16
_MAX_UNREAD = 64
"""Messages that wait for the agent; a worker that sends more waits itself."""

Buffer = bytes | bytearray | memoryview


class Message(NamedTuple):
    head: dict[str, Any]
    payload: bytearray


class Parser:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: Buffer) -> None:
        self._bytes += data

    def next(self) -> Message | None:
        """The next message, if it is here whole. ConnectionError where it is none of ours."""
        rest = self._bytes
        if len(rest) < _HEAD.size:
            return None
        head_bytes, payload_bytes = _HEAD.unpack_from(rest)
        if head_bytes > _MAX_HEAD_BYTES or payload_bytes > INLINE_BYTES:
            raise ConnectionError(f"a message of {head_bytes} + {payload_bytes} bytes is too large")
        head_end = _HEAD.size + head_bytes
        end = head_end + payload_bytes
        if len(rest) < end:
            return None
        message = Message(_from_json(rest[_HEAD.size : head_end]), rest[head_end:end])
        del rest[:end]
        return message


def pack(head: Mapping[str, Any], payload: Buffer = b"") -> bytes:
    """A message; its payload is of at most INLINE_BYTES."""
    data = _to_json(head)
    return b"".join((_HEAD.pack(len(data), len(payload)), data, payload))


# Compiled code does both in a tenth of the time, but for lone surrogates (in a path, in the site's own words): it knows
# neither the characters nor their escapes.


def _to_json(head: Mapping[str, Any]) -> bytes:
    try:
        return to_json(head)
    except ValueError:
        return json.dumps(head).encode()


def _from_json(data: bytearray) -> Any:
    """ValueError where it is none."""
    try:
        return from_json(data)
    except ValueError:
        return json.loads(data)


class WorkerEnd:
    """The worker's end: blocking, one reader (the main thread), any number of writers."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._parser = Parser()
        self._next: Message | None = None
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def send(self, head: Mapping[str, Any], payload: Buffer = b"") -> None:
        message = pack(head, payload)
        with self._sending:
            self._socket.sendall(message)

    def receive(self) -> Message:
        """The next message. EOFError when the agent has gone."""
        while True:
            message, self._next = self._next or self._parser.next(), None
            if message is not None:
                return message
            count = self._socket.recv_into(self._buffer)
            if not count:
                raise EOFError
            self._parser.feed(self._buffer[:count])

    def has_message(self) -> bool:
        """Whether `receive` would not wait for the agent to begin one."""
        self._next = self._next or self._parser.next()
        return self._next is not None or bool(self._poll.poll(0))


class AgentEnd(asyncio.BufferedProtocol):
    """The agent's end, on its event loop. One task receives."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._parser = Parser()
        self._messages: deque[Message] = deque()
        self._receiver: asyncio.Future[None] | None = None
        self._sender: asyncio.Future[None] | None = None
        """Waits for room in the socket; None while there is some."""
        self._lost: Exception | None = None
        self._closed = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, sock: socket.socket) -> "AgentEnd":
        sock.setblocking(False)
        _, end = await asyncio.get_running_loop().create_connection(cls, sock=sock)
        return end

    async def send(self, head: Mapping[str, Any], payload: Buffer = b"") -> None:
        """ConnectionError where the worker has gone."""
        if self._lost is not None or self._transport is None:
            raise ConnectionResetError("the worker has gone")
        self._transport.write(pack(head, payload))
        if self._sender is not None:
            await asyncio.shield(self._sender)

    async def receive(self) -> Message:
        """The next message. EOFError or ConnectionError where the worker has gone."""
        while not self._messages:
            if self._lost is not None:
                raise self._lost
            self._receiver = asyncio.get_running_loop().create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        message = self._messages.popleft()
        if len(self._messages) == _MAX_UNREAD - 1 and self._lost is None and self._transport is not None:
            self._transport.resume_reading()
        return message

    @property
    def is_lost(self) -> bool:
        """Whether the worker has gone."""
        return self._lost is not None

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            await asyncio.shield(self._closed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._parser.feed(self._buffer[:nbytes])
        try:
            while (message := self._parser.next()) is not None:
                self._messages.append(message)
        except (ConnectionError, ValueError) as error:  # what runs there is the site's own code: it may write anything
            self._lose(ConnectionError(f"the worker sent what is no message: {error}"))
            self._abort()
            return
        if len(self._messages) >= _MAX_UNREAD and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._lose(EOFError("the worker has gone"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(ConnectionResetError(str(exc)) if exc is not None else EOFError("the worker has gone"))
        self.resume_writing()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._sender = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None and not sender.done():
            sender.set_result(None)

    def _lose(self, error: Exception) -> None:
        self._lost = self._lost or error
        self._wake()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)
