"""Raw Python gRPC (grpc.aio, bytes, no protobuf): bulk up and down, turns and small messages, unary calls.

The server is a process of its own, the client this one's child too, so that the allocator settings of the platform's
servers hold in both.
"""

import argparse
import asyncio
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.floors.grpc_parts import (
    MESSAGE_BYTES,
    OPTIONS,
    Certificates,
    Child,
    listen,
    open_channel,
    say,
    tls_argument,
    tls_of,
)
from benchmarks.floors.timing import figure
from benchmarks.results import Row

_MODULE = "benchmarks.floors.bulk"
_SERVICE = "bench.Bulk"
_SMALL_BYTES = 64
_BULK_BYTES = 512 << 20
_SMALL_MESSAGES = 20_000
_TURNS = 5_000


def measure() -> list[Row]:
    """All figures about raw gRPC, but for the echo rounds."""
    rows = []
    for tls in (True, False):
        shown = "TLS" if tls else "no TLS"
        for streams in (1, 10):
            for kind in ("up", "down"):
                speed = bulk_bytes_per_s(kind, streams, _BULK_BYTES // streams, tls=tls)
                rows.append(figure("gRPC", f"1 MiB messages {kind}, {streams} stream(s), {shown}", speed / 1e9, "GB/s"))
        for kind, what in (("oneway", "messages up"), ("turn", "turns on a stream"), ("unary", "unary calls")):
            for streams in (1, 10):
                rate = small_per_s(kind, streams, tls=tls)
                rows.append(figure("gRPC", f"small {what}, {streams} stream(s), {shown}", rate, "1/s"))
    return rows


def bulk_bytes_per_s(kind: str, streams: int, bytes_each: int, *, tls: bool) -> float:
    """Bytes a second of `up` or `down` streams in messages of 1 MiB, one channel each; the better of two runs."""
    count = max(1, bytes_each // MESSAGE_BYTES)
    seconds = _run(kind, streams, MESSAGE_BYTES, count, tls=tls)
    return streams * count * MESSAGE_BYTES / seconds


def small_per_s(kind: str, streams: int, *, tls: bool) -> float:
    """Messages of 64 bytes a second: `oneway` on streams, `turn` (there and back) on streams, or `unary` calls."""
    count = (_SMALL_MESSAGES if kind == "oneway" else _TURNS) // streams
    return streams * count / _run(kind, streams, _SMALL_BYTES, count, tls=tls)


def _run(kind: str, streams: int, size_bytes: int, count: int, *, tls: bool) -> float:
    """Seconds of the better of two runs."""
    with ExitStack() as stack:
        certificates = None
        if tls:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-bulk-"))
            certificates = Certificates.make(Path(folder))
        server = Child(_MODULE, "serve", tls_argument(certificates))
        stack.callback(server.close)
        client = Child(
            _MODULE, "load", tls_argument(certificates), server.hear()["port"], kind, streams, size_bytes, count
        )
        stack.callback(client.close)
        return float(min(client.hear()["seconds"]))


async def _serve(certificates: Certificates | None) -> None:
    async def up(_: object, context: Any) -> None:
        while isinstance(await context.read(), bytes):
            pass
        await context.write(b"k")

    async def down(_: object, context: Any) -> None:
        size_bytes, count = map(int, (await context.read()).split())
        message = bytes(size_bytes)
        for _unused in range(count):
            await context.write(message)

    async def turn(_: object, context: Any) -> None:
        while isinstance(message := await context.read(), bytes):
            await context.write(message)

    async def unary(request: bytes, _: object) -> bytes:
        return request

    server = grpc.aio.server(options=OPTIONS)
    handlers = {
        "up": grpc.stream_stream_rpc_method_handler(up),
        "oneway": grpc.stream_stream_rpc_method_handler(up),
        "down": grpc.stream_stream_rpc_method_handler(down),
        "turn": grpc.stream_stream_rpc_method_handler(turn),
        "unary": grpc.unary_unary_rpc_method_handler(unary),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = listen(server, certificates)
    await server.start()
    say({"port": port})
    await server.wait_for_termination()


async def _load(
    certificates: Certificates | None, port: int, kind: str, streams: int, size_bytes: int, count: int
) -> None:
    channels = [open_channel(port, certificates) for _ in range(streams)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        await asyncio.gather(*(_one(channel, kind, size_bytes, count) for channel in channels))
        seconds.append(time.perf_counter() - begun)
    say({"seconds": seconds[1:]})
    await asyncio.gather(*(channel.close(None) for channel in channels))


async def _one(channel: grpc.aio.Channel, kind: str, size_bytes: int, count: int) -> None:
    message = bytes(size_bytes)
    method = f"/{_SERVICE}/{kind}"
    if kind == "unary":
        unary: Any = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        for _ in range(count):
            await unary(message)
        return
    stream: Any = channel.stream_stream(method, request_serializer=None, response_deserializer=None)
    call = stream()
    if kind == "down":
        await call.write(f"{size_bytes} {count}".encode())
        for _ in range(count):
            await call.read()
    elif kind == "turn":
        for _ in range(count):
            await call.write(message)
            await call.read()
    else:
        for _ in range(count):
            await call.write(message)
    await call.done_writing()
    while isinstance(await call.read(), bytes):
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    serve = roles.add_parser("serve")
    serve.add_argument("tls", type=tls_of)
    load = roles.add_parser("load")
    load.add_argument("tls", type=tls_of)
    load.add_argument("port", type=int)
    load.add_argument("kind")
    for name in ("streams", "size_bytes", "count"):
        load.add_argument(name, type=int)
    given = parser.parse_args()
    if given.role == "serve":
        asyncio.run(_serve(given.tls))
    else:
        asyncio.run(_load(given.tls, given.port, given.kind, given.streams, given.size_bytes, given.count))


if __name__ == "__main__":
    main()
