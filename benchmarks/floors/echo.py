"""The raw echo round: what a no-op round costs if nothing but its bytes moves, by raw Python gRPC.

One server (asyncio) and C client processes with one open bidirectional stream each. A round: the server sends P float32
values to every client in messages of 1 MiB; a client that has them all sends the same messages back. No checks, no sum,
no digest, nothing stored. Processes have the allocator settings of the platform's servers.
"""

import argparse
import asyncio
import statistics
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
    children,
    listen,
    open_channel,
    say,
    tls_argument,
    tls_of,
)

_MODULE = "benchmarks.floors.echo"
_METHOD = "/bench.Echo/Attach"
_WARM_ROUNDS = 2
_STREAMS_END_WITHIN_S = 5.0


def echo_rounds(params: int, clients: int, *, rounds: int, tls: bool) -> list[float]:
    """Seconds of each of `rounds` echo rounds, those that warm up left out."""
    with ExitStack() as stack:
        certificates = None
        if tls:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-echo-"))
            certificates = Certificates.make(Path(folder))
        place = tls_argument(certificates)
        server = Child(_MODULE, "serve", 4 * params, clients, rounds, place)
        stack.callback(server.close)
        port = server.hear()["port"]
        stack.enter_context(children(_MODULE, [("attach", 4 * params, port, place)] * clients))
        seconds: list[float] = server.hear()["rounds"]
        return seconds


def echo_round_s(params: int, clients: int, *, tls: bool) -> float:
    """Median seconds of an echo round; more rounds where they are short."""
    rounds = 30 if params * clients <= 20_000_000 else 8 if params * clients <= 100_000_000 else 4
    return statistics.median(echo_rounds(params, clients, rounds=rounds, tls=tls))


async def _serve(size_bytes: int, clients: int, rounds: int, certificates: Certificates | None) -> None:
    attached: list[Any] = []
    all_there, done = asyncio.Event(), asyncio.Event()

    async def attach(_: object, context: Any) -> None:
        attached.append(context)
        if len(attached) == clients:
            all_there.set()
        await done.wait()

    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(attach)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Attach": handler}),))
    port = listen(server, certificates)
    await server.start()
    say({"port": port})
    await all_there.wait()
    messages = _messages(size_bytes)
    seconds = []
    for _ in range(_WARM_ROUNDS + rounds):
        begun = time.perf_counter()
        await asyncio.gather(*(_echoed(context, messages, size_bytes) for context in attached))
        seconds.append(time.perf_counter() - begun)
    say({"rounds": seconds[_WARM_ROUNDS:]})
    done.set()
    await server.stop(_STREAMS_END_WITHIN_S)


async def _echoed(context: Any, messages: list[bytes], size_bytes: int) -> None:
    for message in messages:
        await context.write(message)
    received = 0
    while received < size_bytes:
        received += len(await context.read())


async def _attach(size_bytes: int, port: int, certificates: Certificates | None) -> None:
    async with open_channel(port, certificates) as channel:
        call: Any = channel.stream_stream(_METHOD)()
        while True:
            kept, received = [], 0
            while received < size_bytes:
                message = await call.read()
                if not isinstance(message, bytes):
                    return  # the server has ended the stream
                kept.append(message)
                received += len(message)
            for message in kept:
                await call.write(message)


def _messages(size_bytes: int) -> list[bytes]:
    content = bytes(range(256)) * (MESSAGE_BYTES // 256)
    whole, rest = divmod(size_bytes, MESSAGE_BYTES)
    return [bytes(bytearray(content)) for _ in range(whole)] + ([content[:rest]] if rest else [])


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    serve = roles.add_parser("serve")
    for name in ("size_bytes", "clients", "rounds"):
        serve.add_argument(name, type=int)
    attach = roles.add_parser("attach")
    for name in ("size_bytes", "port"):
        attach.add_argument(name, type=int)
    for role in (serve, attach):
        role.add_argument("tls", type=tls_of)
    given = parser.parse_args()
    if given.role == "serve":
        asyncio.run(_serve(given.size_bytes, given.clients, given.rounds, given.tls))
    else:
        asyncio.run(_attach(given.size_bytes, given.port, given.tls))


if __name__ == "__main__":
    main()
