"""The back end `grpc`."""

import asyncio
import atexit
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Self

from fedn.models.digest import Buffer
from fedn.network.backoff import Backoff
from fedn.protocol.errors import FednError, Unavailable
from fedn.workers.backends.base import DEFAULT_STALL_S, Arrival, Backend, Departure
from fedn.workers.relay.desk import Desk, Place
from fedn.workers.relay.loop import spawn
from fedn.workers.relay.session import Session

_LOG = logging.getLogger(__name__)

DEFAULT_PATIENCE_S = 300.0
"""How long a worker tries to come back to its group, in seconds."""
_FAREWELL_S = 10.0


class Grpc(Backend):
    """Workers anywhere, relayed by combiners: start them with `fedn worker run --backend grpc`.

    It returns when the group's home has taken this worker in.

    Args:
        desk: where the worker gets its place; closed with it.
        stall_s: see `Backend.send`.
        patience_s: how long no combiner may take this worker in before it gives up.

    Raises:
        FednError: it has no place in the group, or nobody took it in.
    """

    def __init__(self, desk: Desk, *, stall_s: float = DEFAULT_STALL_S, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        self._desk = desk
        place = first_place(desk, patience_s)
        self.rank, self.size = place.rank, place.size
        self._session = spawn(_made(desk, place, stall_s, patience_s)).result()
        self._exchange = self._session.exchange
        self._running: Future[None] = spawn(self._session.run())
        try:
            spawn(_wait_for(self._session.attached)).result()
        except BaseException:
            self._end()
            raise
        atexit.register(self.close, "its process ended before it had finished")

    @classmethod
    def attach(cls, environment: Mapping[str, str]) -> Self:
        from fedn.workers.relay.site import desk_of  # the reducer's client: a connection made otherwise needs none

        return cls(desk_of(environment))

    def send(self, receiver: int, frame: Buffer) -> None:
        self._exchange.send(receiver, frame)

    def receive(self, timeout_s: float | None) -> Arrival | Departure | None:
        return self._exchange.receive(timeout_s)

    def close(self, reason: str | None = None) -> None:
        if self._exchange.close_when_sent(reason):
            with contextlib.suppress(TimeoutError):
                self._running.result(_FAREWELL_S)
            self._end()
            atexit.unregister(self.close)

    def _end(self) -> None:
        self._running.cancel()
        with contextlib.suppress(FednError):
            self._desk.close()


def first_place(desk: Desk, patience_s: float) -> Place:
    """The place in the group, as soon as the reducer has one to give."""
    backoff, deadline = Backoff(), time.monotonic() + patience_s
    while True:
        try:
            return desk.join(())
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            _LOG.info("no place in the worker group yet: %s", error)
            time.sleep(backoff.next_s())


async def _made(desk: Desk, place: Place, stall_s: float, patience_s: float) -> Session:
    return Session(desk, place, stall_s=stall_s, patience_s=patience_s)


async def _wait_for(future: "asyncio.Future[None]") -> None:
    await future
