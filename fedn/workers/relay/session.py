"""A worker's connection over many streams: attaches, comes back when a stream breaks, and goes for good at the end."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import grpc

from fedn.network.backoff import Backoff
from fedn.network.bundles import Bundler, split
from fedn.network.dialing import KEEPALIVE, combiner_lost, error_of_call, error_of_status, open_channel
from fedn.network.frames import decode_control
from fedn.network.generated import worker_pb2 as wire
from fedn.protocol.errors import FednError, Forbidden, InvalidInput, Unavailable
from fedn.workers.relay.desk import Desk, Place
from fedn.workers.relay.exchange import Exchange, SaidBye

_LOG = logging.getLogger(__name__)

_METHOD = "/fedn.v1.WorkerService/Attach"
_WELCOME_TIMEOUT_S = 20.0
_FINAL = frozenset(
    {
        "group_begun_anew",
        "group_changed",
        "message_too_large",
        "name_not_yours",
        "no_such_worker",
        "rank_taken",
        "replaced",
        "token_of_another",
        "worker_departed",
        "wrong_sender",
    }
)
"""Codes with which a home says that trying again cannot help."""


class Session:
    """See the module. Belongs to one loop, but for `wake` and `drain`.

    Args:
        patience_s: how long nobody may take this worker in before it gives up.
    """

    def __init__(self, desk: Desk, place: Place, *, stall_s: float, patience_s: float) -> None:
        self._desk = desk
        self._place = place
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._waking = False
        self._welcomed_at = self._loop.time()
        self.attached: asyncio.Future[None] = self._loop.create_future()
        """Done with the first welcome, or with why there is none."""
        self.exchange = Exchange(place.rank, place.size, stall_s=stall_s, wake=self._wake_soon, drain=self._drain_soon)

    async def run(self) -> None:
        """Until the worker has left, or cannot go on: then the exchange is told why."""
        failure: FednError = Unavailable("relay_lost", "the worker's connection to its group has ended")
        try:
            await self._stay_attached()
        except FednError as error:
            _LOG.error("worker %d of %s cannot go on: %s", self._place.rank, self._place.group, error)
            failure = error.without_frames()
        finally:
            # However it ends, nobody waits for it in vain.
            self.exchange.fail(failure)
            if not self.attached.done():
                self.attached.set_exception(failure)

    async def _stay_attached(self) -> None:
        backoff = Backoff()
        avoid: tuple[str, ...] = ()
        again = True
        while True:
            if not again:
                self._place = await self._placed(avoid)
            tried_at = self._loop.time()
            try:
                return await self._attach(self._place)
            except FednError as error:
                if self.exchange.leaving and error.code == "worker_departed":
                    return  # the last word had come, and the stream broke before we heard of that
                if self._is_final(error):
                    raise
                _LOG.info("worker %d of %s: %s", self._place.rank, self._place.group, error)
                # Most cuts are short: the same combiner once more. Then the reducer is asked for another one.
                again = self._welcomed_at > tried_at
                knows_us = isinstance(error, SaidBye) and error.code != "home_unreachable"
                avoid = () if again or knows_us else (self._place.endpoint.combiner,)
                if again:
                    backoff.reset()
                await asyncio.sleep(backoff.next_s())

    def _is_final(self, error: FednError) -> bool:
        if isinstance(error, Forbidden) or (isinstance(error, SaidBye) and error.code in _FINAL):
            return True
        return self._loop.time() - self._welcomed_at > self._patience_s

    async def _placed(self, avoid: Sequence[str]) -> Place:
        """The place as the reducer knows it now; as it was where the reducer is away."""
        try:
            return await asyncio.to_thread(self._desk.join, avoid)
        except Unavailable as error:
            _LOG.info("worker %d of %s has no new place yet: %s", self._place.rank, self._place.group, error)
            return self._place

    async def _attach(self, place: Place) -> None:
        """One stream, from its beginning to its end. Returns when the worker has left."""
        endpoint = place.endpoint
        async with open_channel(endpoint, *KEEPALIVE) as channel:
            attach: Any = channel.stream_stream(_METHOD, request_serializer=None, response_deserializer=None)
            call = attach(metadata=endpoint.metadata)
            work: list[asyncio.Task[None]] = []
            try:
                await call.write(self.exchange.hello(place.ticket))
                await self._greet(call, place)
                work += map(asyncio.create_task, (self._read(call, place), self._write(call), self._keep_token(place)))
                await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
                for task in work:
                    if task.done():
                        task.result()
            except grpc.aio.AioRpcError as error:
                raise error_of_call(error, endpoint) from error
            except asyncio.InvalidStateError as error:
                raise combiner_lost(endpoint, "it ended the stream") from error
            finally:
                call.cancel()
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

    async def _greet(self, call: Any, place: Place) -> None:
        try:
            async with asyncio.timeout(_WELCOME_TIMEOUT_S):
                message = await call.read()
        except TimeoutError as error:
            raise combiner_lost(place.endpoint, f"it said nothing for {_WELCOME_TIMEOUT_S:g} s") from error
        if not isinstance(message, bytes):
            raise error_of_status(await call.code(), await call.details() or "", place.endpoint)
        frames = split(message)
        frame = decode_control(wire.WorkerFrame, frames[0])
        if not frame.HasField("welcome"):
            self.exchange.take(frames[0])  # a Bye
            raise InvalidInput("bad_frame", "the combiner's first message is no Welcome")
        self.exchange.begin_stream(frame.welcome)
        self._welcomed_at = self._loop.time()
        if not self.attached.done():
            self.attached.set_result(None)
        for more in frames[1:]:
            self.exchange.take(more)

    async def _read(self, call: Any, place: Place) -> None:
        while isinstance(message := await call.read(), bytes):
            for frame in split(message):
                self.exchange.take(frame)
            message = frame = b""  # a chunk shall not stay here until the next message comes
            self._welcomed_at = self._loop.time()
            self._wake.set()
        if not self.exchange.left:
            raise error_of_status(await call.code(), await call.details() or "", place.endpoint)

    async def _write(self, call: Any) -> None:
        bundler = Bundler()
        bundler.enabled = True
        while True:
            self._waking = False
            self._wake.clear()
            while (message := bundler.take(self.exchange.next_message)) is not None:
                await call.write(message)
            await self._wake.wait()

    async def _keep_token(self, place: Place) -> None:
        """Renews the token on the open stream, each time when two thirds of its life are over."""
        expires_at, backoff = place.expires_at, Backoff(1.0, 30.0)
        while True:
            await asyncio.sleep(max((expires_at - time.time()) * 2 / 3, 1.0))
            try:
                token, expires_at = await asyncio.to_thread(self._desk.renew)
            except FednError as error:
                _LOG.warning("the worker's token was not renewed: %s", error)
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            self.exchange.say(wire.WorkerFrame(token={"token": token}).SerializeToString())

    def _wake_soon(self) -> None:
        # One call into the loop for many frames: it reads all that waits when it comes to it.
        if not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._wake.set)

    def _drain_soon(self, sender: int) -> None:
        self._loop.call_soon_threadsafe(self._drain, sender)

    def _drain(self, sender: int) -> None:
        self.exchange.drain(sender)
        self._wake.set()
