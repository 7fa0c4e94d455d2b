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
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

INLINE_BYTES = 1 << 20
"""Models up to this size travel in messages; larger ones in files that are mapped."""

MAX_INLINE_BYTES = 64 << 20
_MAX_HEAD_BYTES = 16 << 20
_HEAD = struct.Struct("<IQ")

Buffer = bytes | bytearray | memoryview


class Message(NamedTuple):
    head: dict[str, Any]
    payload: bytearray


def pack(head: Mapping[str, Any], payload_bytes: int) -> bytes:
    """The beginning of a message, up to its payload."""
    data = json.dumps(head).encode()
    return _HEAD.pack(len(data), payload_bytes) + data


def _lengths(start: Buffer) -> tuple[int, int]:
    head_bytes, payload_bytes = _HEAD.unpack(start)
    if head_bytes > _MAX_HEAD_BYTES or payload_bytes > MAX_INLINE_BYTES:
        raise ConnectionError(f"a message of {head_bytes} + {payload_bytes} bytes is too large")
    return head_bytes, payload_bytes


class WorkerEnd:
    """The worker's end: blocking, one reader (the main thread), any number of writers."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()

    def send(self, head: Mapping[str, Any], payload: Buffer = b"") -> None:
        start = pack(head, len(payload))
        with self._sending:
            if len(payload) <= 4096:
                self._socket.sendall(start + bytes(payload))
            else:
                self._socket.sendall(start)
                self._socket.sendall(payload)

    def receive(self) -> Message:
        """The next message. EOFError when the agent has gone."""
        head_bytes, payload_bytes = _lengths(self._exactly(_HEAD.size))
        head = json.loads(self._exactly(head_bytes))
        return Message(head, self._exactly(payload_bytes))

    def has_message(self) -> bool:
        """Whether `receive` would not wait for the agent."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return buffer


class AgentEnd:
    """The agent's end, on its event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> "AgentEnd":
        sock.setblocking(False)
        return cls(*await asyncio.open_connection(sock=sock, limit=4 * INLINE_BYTES))

    async def send(self, head: Mapping[str, Any], payload: Buffer = b"") -> None:
        """ConnectionError where the worker has gone."""
        start = pack(head, len(payload))
        if payload:
            self._writer.writelines((start, payload))
        else:
            self._writer.write(start)
        await self._writer.drain()

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next message's head and payload. EOFError or ConnectionError where the worker has gone."""
        head_bytes, payload_bytes = _lengths(await self._reader.readexactly(_HEAD.size))
        head = json.loads(await self._reader.readexactly(head_bytes))
        return head, await self._reader.readexactly(payload_bytes) if payload_bytes else b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
