"""A worker whose group is at home at another combiner: its stream is handed on there, both ways, as it is.

Nothing is kept here: credit bounds what is under way, and the two streams end together. Only the worker's token is this
combiner's business; the home sees this combiner's own.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from fedn.combiner.options import TlsFiles
from fedn.combiner.streams import TokenTimer
from fedn.network.bundles import split
from fedn.network.dialing import KEEPALIVE, Endpoint, error_of_call, open_channel
from fedn.network.frames import decode_control
from fedn.network.generated import worker_pb2 as wire
from fedn.network.tickets import WorkerTicket
from fedn.network.tokens import Claims, TokenVerifier
from fedn.protocol.errors import FednError, Unavailable

Context = grpc.aio.ServicerContext[Any, Any]

_METHOD = "/fedn.v1.WorkerService/Relay"
_TOKEN_TAG = 0x5A
"""First byte of a frame that holds a TokenRenewal."""


@dataclass(frozen=True)
class Peers:
    """How this combiner dials others.

    Args:
        token: its own role token, as fresh as it is; None: it has none, and dials nobody.
    """

    tls: TlsFiles | None
    token: Callable[[], str] | None = field(repr=False)

    def endpoint(self, ticket: WorkerTicket) -> Endpoint:
        """The home that a ticket names. Unavailable (`home_unreachable`) where this combiner cannot dial."""
        if self.token is None:
            raise _unreachable(ticket, "this combiner is not registered with a reducer")
        tls = self.tls
        return Endpoint(
            combiner=ticket.home,
            host=ticket.host,
            port=ticket.port,
            token=self.token(),
            ca=tls.ca if tls else b"",
            key=tls.key if tls else None,
            certificate=tls.certificate if tls else None,
        )


async def forward(
    context: Context, hello: bytes, ticket: WorkerTicket, peers: Peers, verifier: TokenVerifier, claims: Claims
) -> None:
    """Hands a stream on until either side ends it.

    Args:
        hello: the worker's first message.
        verifier, claims: of the worker's token, with which the stream ends.

    Raises:
        Unavailable: (`home_unreachable`) the home was not reached, or is lost.
        Unauthenticated: the worker's token has ended; Forbidden: it was renewed with another's.
    """
    endpoint = peers.endpoint(ticket)
    expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    token = TokenTimer(verifier, claims, lambda error: _fail(expired, error))
    async with open_channel(endpoint, *KEEPALIVE) as channel:
        relay: Any = channel.stream_stream(_METHOD, request_serializer=None, response_deserializer=None)
        call = relay(metadata=endpoint.metadata)
        tasks = {
            asyncio.create_task(_up(context, call, hello, token)),
            asyncio.create_task(_down(context, call)),
        }
        try:
            done, _ = await asyncio.wait({*tasks, expired}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except grpc.aio.AioRpcError as error:
            raise _unreachable(ticket, str(error_of_call(error, endpoint))) from error
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            return  # the worker's own stream broke
        finally:
            token.cancel()
            expired.cancel()
            call.cancel()
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _up(context: Context, call: Any, hello: bytes, token: TokenTimer) -> None:
    message: Any = hello
    while isinstance(message, bytes):
        renewals = [frame for frame in split(message) if len(frame) and frame[0] == _TOKEN_TAG]
        if not renewals:
            await call.write(message)
        for frame in split(message) if renewals else ():
            if frame in renewals:
                token.renew(decode_control(wire.WorkerFrame, frame).token.token)
            else:
                await call.write(bytes(frame))
        message = await context.read()


async def _down(context: Context, call: Any) -> None:
    while isinstance(message := await call.read(), bytes):
        await context.write(message)
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise Unavailable("home_unreachable", f"the stream to the group's home ended: {code.name.lower()}")


def _fail(future: "asyncio.Future[None]", error: FednError) -> None:
    if not future.done():
        future.set_exception(error)


def _unreachable(ticket: WorkerTicket, why: str) -> Unavailable:
    return Unavailable(
        "home_unreachable",
        f"the combiner where the group meets cannot be reached from here: {why}",
        fix="Let combiners reach each other's registered addresses, or let workers attach to the home itself.",
        where={"group": ticket.group, "combiner": ticket.home, "address": f"{ticket.host}:{ticket.port}"},
    )
