"""Half of a pair of relayed workers: `python -m benchmarks.wire.worker FOLDER PORT RANK SIZE MESSAGES FRAMES`.

Even ranks speak to the next odd one. Told to begin, an even one says how many seconds each kind took.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.floors.grpc_parts import say
from benchmarks.wire.trust import COMBINER, HOST, Trust
from fedn.network.dialing import Endpoint
from fedn.network.tickets import WorkerTicket
from fedn.workers.backends import Arrival, Backend
from fedn.workers.relay.backend import Grpc
from fedn.workers.relay.desk import Place

MESSAGE = bytes(64)
FRAME = bytes(1 << 20)


class TrustDesk:
    """Gives a place without a reducer, from the run's own trust."""

    def __init__(self, trust: Trust, port: int, rank: int, size: int, *, tls: bool) -> None:
        client = f"worker-{rank}"
        ticket = WorkerTicket(
            client=client,
            group="pairs",
            size=size,
            rank=rank,
            entrance=COMBINER,
            home=COMBINER,
            host=HOST,
            port=port,
            expires_at=time.time() + 3600,
        )
        endpoint = Endpoint(
            combiner=COMBINER,
            host=HOST,
            port=port,
            token=trust.client_token(client),
            ca=trust.authority_pem if tls else b"",
        )
        self._trust, self._client = trust, client
        self._place = Place(endpoint, trust.ticket(ticket), "pairs", rank, size, time.time() + 3600)

    def join(self, avoid: Sequence[str]) -> Place:
        return self._place

    def renew(self) -> tuple[str, float]:
        return self._trust.client_token(self._client), time.time() + 3600

    def close(self) -> None:
        """Nothing is open."""


def take(worker: Backend) -> Arrival:
    """The next frame; that other pairs are done is passed over. RuntimeError: none comes any more."""
    while not isinstance(came := worker.receive(120), Arrival):
        if came is None or came.rank == worker.rank ^ 1:
            raise RuntimeError(f"a frame was expected, and {came} came")
    return came


def speak(worker: Backend, messages: int, frames: int) -> None:
    """The even rank's part."""
    other = worker.rank + 1

    def turns() -> None:
        for _ in range(messages):
            worker.send(other, MESSAGE)
            take(worker)

    def one_way(frame: bytes, count: int) -> Callable[[], None]:
        def send() -> None:
            for _ in range(count):
                worker.send(other, frame)
            take(worker)

        return send

    seconds = {}
    for kind, work in (("turns", turns), ("one way", one_way(MESSAGE, messages)), ("1 MiB", one_way(FRAME, frames))):
        begun = time.perf_counter()
        work()
        seconds[kind] = time.perf_counter() - begun
    say(seconds)


def listen(worker: Backend, messages: int, frames: int) -> None:
    """The odd rank's part."""
    other = worker.rank - 1
    for _ in range(messages):
        worker.send(other, take(worker).frame)
    for count in (messages, frames):
        for _ in range(count):
            take(worker)
        worker.send(other, MESSAGE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("port", "rank", "size", "messages", "frames"):
        parser.add_argument(name, type=int)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    worker = Grpc(TrustDesk(Trust(given.folder), given.port, given.rank, given.size, tls=not given.plain))
    say({"ready": given.rank})
    sys.stdin.readline()
    (listen if given.rank % 2 else speak)(worker, given.messages, given.frames)
    worker.close()


if __name__ == "__main__":
    main()
