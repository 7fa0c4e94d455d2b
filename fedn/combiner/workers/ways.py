"""The two ways to a group's home at another combiner: that one is dialled, or the reducer fetches the stream here.

The reducer dials every combiner anyway, for the rounds: so it reaches this one and the home also where they do not
reach each other, and needs no port of its own for it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import grpc

from fedn.combiner.streams import first_message
from fedn.network.dialing import KEEPALIVE, Endpoint, open_channel
from fedn.network.frames import decode_control
from fedn.network.generated import worker_pb2 as wire
from fedn.protocol.errors import NotFound, Unavailable

Context = grpc.aio.ServicerContext[Any, Any]

_METHOD = "/fedn.v1.WorkerService/Relay"
_DIAL_S = 4.0
"""A home that has not answered the Hello by then is not reached."""
_FETCH_S = 10.0
"""So long the reducer has to come. With the dialling before it, a worker's patience is not used up."""
_DETOUR_TAG = 0x6A
"""First byte of a frame that holds a WorkerDetour."""


class Way(Protocol):
    """A stream to a home. Both directions raise Unavailable (`home_unreachable`) where it breaks."""

    async def read(self) -> bytes | None:
        """The home's next message; None: it has ended the stream in good order."""

    async def write(self, message: bytes) -> None:
        """Hands a message on."""


@asynccontextmanager
async def dialled(endpoint: Endpoint, hello: bytes) -> AsyncIterator[Way]:
    """The direct way, once the home has answered the Hello. Unavailable (`home_unreachable`) where it does not."""
    async with open_channel(endpoint, *KEEPALIVE) as channel:
        relay: Any = channel.stream_stream(_METHOD, request_serializer=None, response_deserializer=None)
        call = relay(metadata=endpoint.metadata)
        try:
            way = _Dialled(call)
            try:
                async with asyncio.timeout(_DIAL_S):
                    await way.write(hello)
                    way.first = await way.read()
            except TimeoutError as error:
                raise _broken(f"no answer within {_DIAL_S:g} s") from error
            if way.first is None:
                raise _broken("it ended the stream without a word")
            yield way
        finally:
            call.cancel()


class _Dialled:
    def __init__(self, call: Any) -> None:
        self._call = call
        self.first: bytes | None = None
        """The home's answer to the Hello, until it is read."""

    async def read(self) -> bytes | None:
        first, self.first = self.first, None
        if first is not None:
            return first
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _broken(f"{error.code().name.lower()}: {error.details()}") from error
        return message if isinstance(message, bytes) else None

    async def write(self, message: bytes) -> None:
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise _broken(f"{error.code().name.lower()}: {error.details()}") from error
        except asyncio.InvalidStateError as error:
            code = await self._call.code()
            if code is not grpc.StatusCode.OK:  # else the reader finds the end, and all that came before it
                raise _broken(f"{code.name.lower()}: {await self._call.details()}") from error


class Detours:
    """The streams that the reducer fetches here. Belongs to one loop."""

    def __init__(self) -> None:
        self._expected: dict[str, asyncio.Future[_Fetched]] = {}

    @asynccontextmanager
    async def fetched(self, hello: bytes, ask: Callable[[str], Awaitable[None]]) -> AsyncIterator[Way]:
        """The way through the reducer, once that has come for the stream.

        Args:
            ask: asks the reducer to come, with the name of the call.

        Raises:
            Unavailable: (`home_unreachable`) it does not come.
            FednError: of `ask`.
        """
        call = secrets.token_urlsafe(24)
        waiting: asyncio.Future[_Fetched] = asyncio.get_running_loop().create_future()
        self._expected[call] = waiting
        try:
            await ask(call)
            try:
                async with asyncio.timeout(_FETCH_S):
                    way = await waiting
            except TimeoutError as error:
                raise _broken(f"the reducer did not fetch the stream within {_FETCH_S:g} s") from error
            await way.write(hello)
            yield way
        finally:
            self._expected.pop(call, None)
            if waiting.done() and not waiting.cancelled():
                waiting.result().over.set()
            waiting.cancel()

    async def serve(self, context: Context) -> None:
        """The RPC Detour: lasts as long as the worker's own stream.

        Raises:
            NotFound: (`no_such_detour`) nobody waits for this call any more.
            InvalidInput: (`bad_frame`).
        """
        message = await first_message(context)
        if message is None:
            return
        call = decode_control(wire.WorkerFrame, message).detour.call
        waiting = self._expected.pop(call, None)
        if waiting is None or waiting.done():
            raise NotFound(
                "no_such_detour",
                "no worker waits here for this call of the reducer",
                fix="Nothing to do: the worker has gone, or tries again.",
            )
        way = _Fetched(context)
        waiting.set_result(way)
        await way.over.wait()


class _Fetched:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.over = asyncio.Event()
        """Set when the worker's stream has ended."""

    async def read(self) -> bytes | None:
        try:
            message = await self._context.read()
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise _broken("the reducer broke its stream") from error
        if not isinstance(message, bytes):
            raise _broken("the reducer has gone")
        if message[:1] != bytes((_DETOUR_TAG,)):
            return message
        said = decode_control(wire.WorkerFrame, message).detour
        if said.HasField("problem"):
            raise _broken(f"through the reducer: {said.problem.message}")
        return None

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise _broken("the reducer broke its stream") from error


def _broken(why: str) -> Unavailable:
    return Unavailable("home_unreachable", why, fix="The worker connects again by itself.")
