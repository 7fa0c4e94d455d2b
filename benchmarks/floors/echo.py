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
_WORD = b"k"
"""Says that all was received, or that it is time to send."""
_WARM_ROUNDS = 2
_STREAMS_END_WITHIN_S = 5.0


def echo_rounds(params: int, clients: int, *, rounds: int, tls: bool) -> list[float]:
    """Seconds of each of `rounds` echo rounds, those that warm up left out."""
    return _run("echo", params, clients, rounds, tls=tls)["echo"]


def echo_round_s(params: int, clients: int, *, tls: bool) -> float:
    """Median seconds of an echo round; more rounds where they are short."""
    rounds = 30 if params * clients <= 20_000_000 else 8 if params * clients <= 100_000_000 else 4
    return statistics.median(echo_rounds(params, clients, rounds=rounds, tls=tls))


def phases(params: int, clients: int, *, rounds: int, tls: bool) -> dict[str, list[float]]:
    """Seconds of the two halves of echo rounds, apart: `down` to all clients, then `up` from all of them."""
    return _run("apart", params, clients, rounds, tls=tls)


def _run(kind: str, params: int, clients: int, rounds: int, *, tls: bool) -> dict[str, list[float]]:
    with ExitStack() as stack:
        certificates = None
        if tls:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fedn-echo-"))
            certificates = Certificates.make(Path(folder))
        place = tls_argument(certificates)
        server = Child(_MODULE, "serve", kind, place, 4 * params, clients, rounds)
        stack.callback(server.close)
        port = server.hear()["port"]
        stack.enter_context(children(_MODULE, [("attach", kind, place, 4 * params, port)] * clients))
        times: dict[str, list[float]] = server.hear()
        return times


async def _serve(kind: str, certificates: Certificates | None, size_bytes: int, clients: int, rounds: int) -> None:
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

    async def echoed(context: Any) -> None:
        await _send(context, messages)
        await _receive(context, size_bytes)

    async def sent(context: Any) -> None:
        await _send(context, messages)
        await context.read()

    async def asked(context: Any) -> None:
        await context.write(_WORD)
        await _receive(context, size_bytes)

    steps = {"echo": echoed} if kind == "echo" else {"down": sent, "up": asked}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_WARM_ROUNDS + rounds):
        for name, step in steps.items():
            begun = time.perf_counter()
            await asyncio.gather(*(step(context) for context in attached))
            seconds[name].append(time.perf_counter() - begun)
    say({name: values[_WARM_ROUNDS:] for name, values in seconds.items()})
    done.set()
    await server.stop(_STREAMS_END_WITHIN_S)


async def _send(stream: Any, messages: list[bytes]) -> None:
    for message in messages:
        await stream.write(message)


async def _receive(stream: Any, size_bytes: int) -> list[bytes] | None:
    """The messages of so many bytes; None where the peer has ended the stream."""
    messages, received = [], 0
    while received < size_bytes:
        message = await stream.read()
        if not isinstance(message, bytes):
            return None
        messages.append(message)
        received += len(message)
    return messages


async def _attach(kind: str, certificates: Certificates | None, size_bytes: int, port: int) -> None:
    async with open_channel(port, certificates) as channel:
        attach: Any = channel.stream_stream(_METHOD, request_serializer=None, response_deserializer=None)
        call = attach()
        while (messages := await _receive(call, size_bytes)) is not None:
            if kind == "apart":
                await call.write(_WORD)
                await call.read()
            await _send(call, messages)


def _messages(size_bytes: int) -> list[bytes]:
    content = bytes(range(256)) * (MESSAGE_BYTES // 256)
    whole, rest = divmod(size_bytes, MESSAGE_BYTES)
    return [bytes(bytearray(content)) for _ in range(whole)] + ([content[:rest]] if rest else [])


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    serve, attach = roles.add_parser("serve"), roles.add_parser("attach")
    for role, numbers in ((serve, ("size_bytes", "clients", "rounds")), (attach, ("size_bytes", "port"))):
        role.add_argument("kind", choices=("echo", "apart"))
        role.add_argument("tls", type=tls_of)
        for name in numbers:
            role.add_argument(name, type=int)
    given = parser.parse_args()
    if given.role == "serve":
        asyncio.run(_serve(given.kind, given.tls, given.size_bytes, given.clients, given.rounds))
    else:
        asyncio.run(_attach(given.kind, given.tls, given.size_bytes, given.port))


if __name__ == "__main__":
    main()
