"""Many idle clients in one process: light streams that answer nothing but what they are asked to.

`python -m benchmarks.wire.crowd FOLDER PORT FIRST COUNT PER_CONNECTION [--plain | --raw TLS]`. It says
{"attached": COUNT}; then for each line that it reads: `ping N` → {"ms": [...]}, N pings of randomly chosen clients, one
after the other; `task` → {"at": t}, when the last of its clients has its task (CLOCK_MONOTONIC).
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import grpc

from benchmarks.floors.grpc_parts import open_channel, raise_file_limit, say, tls_of
from benchmarks.floors.raw_idle import RawStream
from benchmarks.wire.streams import ClientStream, channel
from benchmarks.wire.trust import Trust

_AT_ONCE = 50
"""Clients that attach at the same time: more would only wait for each other's handshakes."""


def client_name(index: int) -> str:
    return f"client-{index}"


Stream = ClientStream | RawStream
Opener = Callable[[], AbstractAsyncContextManager[grpc.aio.Channel]]


async def _run(
    open_one: Opener, stream_of: Callable[[grpc.aio.Channel, int], Stream], given: argparse.Namespace
) -> None:
    rng = random.Random(given.first)
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(open_one()) for _ in range(-(-given.count // given.per_connection))]
        clients: list[Stream] = []
        for start in range(0, given.count, _AT_ONCE):
            # A call begins when it is made, and the combiner waits only so long for its Hello.
            some = [
                stream_of(channels[index // given.per_connection], given.first + index)
                for index in range(start, min(start + _AT_ONCE, given.count))
            ]
            clients += [await stack.enter_async_context(client) for client in some]
            await asyncio.gather(*(client.hello() for client in some))
        say({"attached": given.count})
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, *numbers = line.strip().strip('"').split()
            if word == "ping":
                say({"ms": [await _ping_ms(rng.choice(clients), nonce) for nonce in range(int(numbers[0]))]})
            else:
                await asyncio.gather(*(client.expect("task") for client in clients))
                say({"at": time.monotonic()})


async def _ping_ms(client: Stream, nonce: int) -> float:
    begun = time.perf_counter()
    await client.ping(nonce)
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("port", "first", "count", "per_connection"):
        parser.add_argument(name, type=int)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--raw", help="a raw server instead of a combiner: the folder of its certificates, or nothing")
    given = parser.parse_args()
    raise_file_limit()
    if given.raw is not None:
        certificates = tls_of(given.raw)
        asyncio.run(_run(lambda: open_channel(given.port, certificates), lambda opened, _: RawStream(opened), given))
        return
    trust = Trust(given.folder)
    asyncio.run(
        _run(
            lambda: channel(trust, given.port, tls=not given.plain),
            lambda opened, index: ClientStream(opened, client_name(index), trust),
            given,
        )
    )


if __name__ == "__main__":
    main()
