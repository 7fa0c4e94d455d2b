"""One worker's stream on its way through the reducer, between the combiner that it is attached to and the home.

The reducer dials both: rounds need that it reaches every combiner, so a detour needs neither another open port nor an
address that is not registered. What waits here is bounded by what gRPC may read ahead: a message is read only when the
one before it has been taken on the other side, and then the sender's own window is closed.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from fedn.network.convert import reason_to_wire
from fedn.network.dialing import KEEPALIVE, Endpoint, open_channel
from fedn.network.frames import decode_control
from fedn.network.generated import worker_pb2 as wire
from fedn.protocol.errors import FednError, Unavailable

_DETOUR = "/fedn.v1.WorkerService/Detour"
_RELAY = "/fedn.v1.WorkerService/Relay"
_OPEN_S = 5.0
"""For each of the two combiners to answer."""
_LINGER_S = 5.0
"""So long the combiner has to end its call after it was told that the home's stream is over."""

MAX_MESSAGE_BYTES = 1 << 20
"""Larger messages end a stream. Workers' chunks come in messages of half of that at the most."""
_READ_AHEAD_BYTES = 512 << 10
HELD_BYTES = 2 * (2 * MAX_MESSAGE_BYTES + _READ_AHEAD_BYTES)
"""Of one stream, in memory here at the most: in each direction one message that is being written, one that is being
read, and what gRPC reads ahead."""

_OPTIONS = (
    *KEEPALIVE,
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.lookahead_bytes", _READ_AHEAD_BYTES),
    # The window would grow with the speed of the link, and with it what is held for a reader that is slow.
    ("grpc.http2.bdp_probe", 0),
)
_CALL_ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError)
"""What reads and writes raise on a call that has ended, or ends."""


@dataclass
class Meter:
    """Of all streams. Written by their loop alone."""

    on_passed: Callable[[int], None]
    """Told of each message's bytes when it was handed on."""
    held_bytes: int = 0
    """Read, and not yet taken by the other side."""


@dataclass(frozen=True)
class Detour:
    """Between whom."""

    near: Endpoint
    """The combiner that the worker is attached to."""
    far: Endpoint
    """The home."""
    call: str
    """By which the near one knows the stream."""


async def carry(detour: Detour, meter: Meter, on_open: Callable[[], None]) -> None:
    """Hands a stream on, both ways, until either side ends it.

    Args:
        on_open: called when the home has answered.

    Raises:
        Unavailable: (`detour_lost`) a combiner was not reached, or the home's stream broke. The near combiner was told
            of what concerns the home.
        InvalidInput: (`bad_frame`) what the near combiner says is no frame.
    """
    async with open_channel(detour.near, *_OPTIONS) as near, open_channel(detour.far, *_OPTIONS) as far:
        worker, home = _call(near, _DETOUR, detour.near), _call(far, _RELAY, detour.far)
        try:
            hello = await _fetch(worker, detour)
            try:
                first = await _answer(home, hello, detour.far)
            except Unavailable as error:
                await _say_over(worker, error)
                await _drain(worker)
                raise
            on_open()
            await _hand_on(worker, home, first, detour, meter)
        finally:
            worker.cancel()
            home.cancel()


def _call(channel: grpc.aio.Channel, method: str, endpoint: Endpoint) -> Any:
    opened: Any = channel.stream_stream(method, request_serializer=None, response_deserializer=None)
    return opened(metadata=endpoint.metadata)


async def _fetch(worker: Any, detour: Detour) -> bytes:
    """The Hello of the worker that waits at the near combiner."""
    begin = wire.WorkerFrame(detour=wire.WorkerDetour(call=detour.call)).SerializeToString()
    hello = await _answer(worker, begin, detour.near)
    said = decode_control(wire.WorkerFrame, hello)
    if not said.HasField("hello"):
        raise _lost(detour.near, said.bye.problem.message or "no worker waits there")
    return hello


async def _answer(call: Any, message: bytes, endpoint: Endpoint) -> bytes:
    try:
        async with asyncio.timeout(_OPEN_S):
            await call.write(message)
            answer = await call.read()
    except TimeoutError as error:
        raise _lost(endpoint, f"no answer within {_OPEN_S:g} s") from error
    except grpc.aio.AioRpcError as error:
        raise _lost(endpoint, f"{error.code().name.lower()}: {error.details()}") from error
    except asyncio.InvalidStateError as error:
        raise _lost(endpoint, f"{(await call.code()).name.lower()}: {await call.details()}") from error
    if not isinstance(answer, bytes):
        raise _lost(endpoint, "it ended the stream without a word")
    return answer


async def _hand_on(worker: Any, home: Any, first: bytes, detour: Detour, meter: Meter) -> None:
    """Until the worker has gone, or the home has ended its stream. Unavailable (`detour_lost`): the home is lost."""
    up = asyncio.create_task(_pump_up(worker, home, meter))
    down = asyncio.create_task(_pump_down(home, worker, first, meter))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if up.done() or not home.done():
            return  # the worker has gone: the near combiner has ended its call
        code = await home.code()
        in_order = code is grpc.StatusCode.OK
        lost = None if in_order else _lost(detour.far, f"{code.name.lower()}: {await home.details()}")
        await _say_over(worker, lost)
        await asyncio.wait({up}, timeout=_LINGER_S)
        if lost is not None:
            raise lost
    finally:
        # A cancelled read cancels its call: so this comes last.
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _pump_up(worker: Any, home: Any, meter: Meter) -> None:
    """Until the near combiner ends its call. What the home no longer takes is dropped: its sender keeps it."""
    with contextlib.suppress(*_CALL_ENDED):
        while isinstance(message := await worker.read(), bytes):
            with contextlib.suppress(*_CALL_ENDED):
                await _pass_on(message, home, meter)
            message = b""  # shall not stay here until the next one comes


async def _pump_down(home: Any, worker: Any, first: bytes, meter: Meter) -> None:
    """Until the home ends its stream, or the near combiner its call: then that one has a status."""
    message: Any = first
    with contextlib.suppress(*_CALL_ENDED):
        while isinstance(message, bytes):
            await _pass_on(message, worker, meter)
            message = b""
            message = await home.read()


async def _pass_on(message: bytes, target: Any, meter: Meter) -> None:
    meter.held_bytes += len(message)
    try:
        await target.write(message)
        meter.on_passed(len(message))
    finally:
        meter.held_bytes -= len(message)


async def _say_over(worker: Any, error: FednError | None) -> None:
    """Tells the near combiner how the home's stream ended."""
    problem = None if error is None else reason_to_wire(error)
    over = wire.WorkerFrame(detour=wire.WorkerDetour(over=True, problem=problem)).SerializeToString()
    with contextlib.suppress(*_CALL_ENDED, TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            await worker.write(over)
            await worker.done_writing()


async def _drain(worker: Any) -> None:
    """Waits for the near combiner to end its call."""
    with contextlib.suppress(*_CALL_ENDED, TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while isinstance(await worker.read(), bytes):
                continue


def _lost(endpoint: Endpoint, why: str) -> Unavailable:
    return Unavailable(
        "detour_lost",
        f"the combiner {endpoint.combiner!r} cannot be reached by the reducer: {why}",
        fix="The worker connects again by itself; look at that combiner if it lasts.",
        where={"combiner": endpoint.combiner, "address": endpoint.address},
    )
