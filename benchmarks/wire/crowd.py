"""Many idle clients in one process: light streams that answer nothing but what they are asked to.

`python -m benchmarks.wire.crowd FOLDER PORT FIRST COUNT PER_CONNECTION [--plain]`. It says {"attached": COUNT}; then
for each line that it reads: `ping N` → {"ms": [...]}, N pings of randomly chosen clients, one after the other;
`task` → {"at": t}, when the last of its clients has its task (CLOCK_MONOTONIC).
"""

import argparse
import asyncio
import random
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from benchmarks.floors.grpc_parts import say
from benchmarks.wire.combiner import raise_file_limit
from benchmarks.wire.streams import ClientStream, channel
from benchmarks.wire.trust import Trust

_AT_ONCE = 50
"""Clients that attach at the same time: more would only wait for each other's handshakes."""


def client_name(index: int) -> str:
    return f"client-{index}"


async def _run(folder: Path, port: int, first: int, count: int, per_connection: int, *, tls: bool) -> None:
    trust = Trust(folder)
    rng = random.Random(first)
    async with AsyncExitStack() as stack:
        channels: list[grpc.aio.Channel] = []
        for _ in range(-(-count // per_connection)):
            channels.append(await stack.enter_async_context(channel(trust, port, tls=tls)))
        clients = [
            await stack.enter_async_context(
                ClientStream(channels[index // per_connection], client_name(first + index), trust)
            )
            for index in range(count)
        ]
        for start in range(0, count, _AT_ONCE):
            await asyncio.gather(*(client.hello() for client in clients[start : start + _AT_ONCE]))
        say({"attached": count})
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, *numbers = line.strip().strip('"').split()
            if word == "ping":
                say({"ms": [await _ping_ms(rng.choice(clients), nonce) for nonce in range(int(numbers[0]))]})
            else:
                await asyncio.gather(*(client.expect("task") for client in clients))
                say({"at": time.monotonic()})


async def _ping_ms(client: ClientStream, nonce: int) -> float:
    begun = time.perf_counter()
    await client.ping(nonce)
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("port", "first", "count", "per_connection"):
        parser.add_argument(name, type=int)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    raise_file_limit()
    asyncio.run(_run(given.folder, given.port, given.first, given.count, given.per_connection, tls=not given.plain))


if __name__ == "__main__":
    main()
