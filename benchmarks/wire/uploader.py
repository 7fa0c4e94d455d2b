"""A light client in a process of its own: takes each round's model, and delivers an update when it is told to.

`python -m benchmarks.wire.uploader FOLDER PORT INDEX PARAMS [--plain]`. It says {"attached"}, then for each round
{"task": t} when it has the model and {"acked": t} when its update is acknowledged; t is CLOCK_MONOTONIC, which all
processes of a machine share.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

from benchmarks.floors.grpc_parts import say
from benchmarks.noop.workload import make_model, shift_of
from benchmarks.wire.streams import ClientStream, StreamEnded, channel, messages_of
from benchmarks.wire.trust import Trust
from fedn.models.digest import digest
from fedn.models.wire import encode


def client_name(index: int) -> str:
    return f"client-{index + 1}"


async def _run(folder: Path, port: int, index: int, params: int, *, tls: bool) -> None:
    trust = Trust(folder)
    update = encode({f"{name:02d}": array + shift_of(index) for name, array in enumerate(make_model(params))})
    object_id, size_bytes, pieces = digest(update), len(update), messages_of(update)
    del update
    async with channel(trust, port, tls=tls) as opened, ClientStream(opened, client_name(index), trust) as stream:
        await stream.hello()
        say({"attached": True})
        while True:
            try:
                task = await stream.expect("task")
            except StreamEnded:
                return  # the combiner has gone: the run is over
            say({"task": time.monotonic()})
            if not await asyncio.to_thread(sys.stdin.readline):
                return
            await stream.upload(task, object_id, size_bytes, pieces)
            say({"acked": time.monotonic()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("port", "index", "params"):
        parser.add_argument(name, type=int)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    asyncio.run(_run(given.folder, given.port, given.index, given.params, tls=not given.plain))


if __name__ == "__main__":
    main()
