"""A worker whose group is at home at another combiner: its stream is handed on there, both ways, as it is.

Nothing is kept here: credit bounds what is under way, and the two streams end together. Only the worker's token is this
combiner's business; the home sees one that was made for relaying.
"""

import asyncio
from typing import Any

import grpc

from fedn.combiner.streams import TokenTimer
from fedn.combiner.workers.peers import Handed, Peers, unreachable
from fedn.combiner.workers.ways import Way
from fedn.network.bundles import split
from fedn.network.frames import decode_control
from fedn.network.generated import worker_pb2 as wire
from fedn.network.tokens import Claims, TokenVerifier
from fedn.protocol.errors import FednError, Unavailable

Context = grpc.aio.ServicerContext[Any, Any]

_TOKEN_TAG = 0x5A
"""First byte of a frame that holds a TokenRenewal."""


async def forward(context: Context, handed: Handed, peers: Peers, verifier: TokenVerifier, claims: Claims) -> None:
    """Hands a stream on until either side ends it.

    Args:
        verifier, claims: of the worker's token, with which the stream ends.

    Raises:
        Unavailable: (`home_unreachable`) the home was not reached, or is lost.
        Unauthenticated: the worker's token has ended; Forbidden: it was renewed with another's.
    """
    async with peers.way(handed) as way:
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        token = TokenTimer(verifier, claims, lambda error: _fail(expired, error))
        tasks = {asyncio.create_task(_up(context, way, token)), asyncio.create_task(_down(context, way))}
        try:
            done, _ = await asyncio.wait({*tasks, expired}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Unavailable as error:
            raise unreachable(handed.ticket, error.message) from error
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            return  # the worker's own stream broke
        finally:
            token.cancel()
            expired.cancel()
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _up(context: Context, way: Way, token: TokenTimer) -> None:
    while isinstance(message := await context.read(), bytes):
        renewals = [frame for frame in split(message) if len(frame) and frame[0] == _TOKEN_TAG]
        if not renewals:
            await way.write(message)
        for frame in split(message) if renewals else ():
            if frame in renewals:
                token.renew(decode_control(wire.WorkerFrame, frame).token.token)
            else:
                await way.write(bytes(frame))


async def _down(context: Context, way: Way) -> None:
    while (message := await way.read()) is not None:
        await context.write(message)


def _fail(future: "asyncio.Future[None]", error: FednError) -> None:
    if not future.done():
        future.set_exception(error)
