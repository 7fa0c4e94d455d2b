"""Idle streams on a raw gRPC server: what attached clients cost at the least.

The server is a process (`python -m benchmarks.floors.raw_idle TLS`) that answers each message with itself, and on a
line `push` writes one to every stream. `RawStream` has what a crowd needs of a client.
"""

import argparse
import asyncio
import sys
from types import TracebackType
from typing import Any, Self

import grpc

from benchmarks.floors.grpc_parts import (
    OPTIONS,
    Certificates,
    Child,
    listen,
    raise_file_limit,
    say,
    tls_argument,
    tls_of,
)

_MODULE = "benchmarks.floors.raw_idle"
_TASK = bytes(256)
"""About as long as a task."""


class RawServer:
    """A running server; `close` ends it."""

    def __init__(self, certificates: Certificates | None) -> None:
        self._child = Child(_MODULE, tls_argument(certificates))
        self.pid = self._child.pid
        self.port = int(self._child.hear()["port"])

    def push(self) -> None:
        """Writes a message to every stream."""
        self._child.tell("push")

    def close(self) -> None:
        self._child.close()


class RawStream:
    """An open stream, as a crowd uses it."""

    def __init__(self, opened: grpc.aio.Channel) -> None:
        attach: Any = opened.stream_stream("/bench.Idle/Attach", request_serializer=None, response_deserializer=None)
        self._call = attach()

    async def hello(self) -> None:
        await self.ping(0)

    async def ping(self, nonce: int) -> None:
        """A turn: there and back."""
        await self._call.write(nonce.to_bytes(8))
        await self._call.read()

    async def expect(self, *fields: str) -> Any:
        """The next message, whatever it is."""
        return await self._call.read()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()


async def _serve(certificates: Certificates | None) -> None:
    streams: list[Any] = []

    async def attach(_: object, context: Any) -> None:
        streams.append(context)
        while isinstance(message := await context.read(), bytes):
            await context.write(message)

    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(attach)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Idle", {"Attach": handler}),))
    port = listen(server, certificates)
    await server.start()
    say({"port": port})
    while await asyncio.to_thread(sys.stdin.readline):
        for context in streams:
            await context.write(_TASK)
    await server.stop(None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tls", type=tls_of)
    given = parser.parse_args()
    raise_file_limit()
    asyncio.run(_serve(given.tls))


if __name__ == "__main__":
    main()
