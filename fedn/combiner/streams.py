"""What client streams and reducer streams have in common: their two directions, and the token that ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from fedn.combiner.options import HELLO_TIMEOUT_S
from fedn.combiner.outbox import Outbox
from fedn.network.bundles import split
from fedn.network.frames import Buffer
from fedn.network.tokens import LEEWAY_S, Claims, TokenVerifier
from fedn.protocol.errors import FednError, Forbidden, Unauthenticated, Unavailable

Context = grpc.aio.ServicerContext[Any, Any]


async def first_message(context: Context) -> bytes | None:
    """What a peer says first, its Hello; None where it goes or says nothing for too long."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            message = await context.read()
    except TimeoutError:
        return None
    return message if isinstance(message, bytes) else None


async def run_stream(
    context: Context,
    outbox: Outbox,
    receive: Callable[[Buffer], Awaitable[None]],
    farewell: Callable[[FednError], bytes],
) -> str:
    """Reads and writes until the peer half-closes, the outbox ends, or either fails; why, in words.

    Args:
        receive: takes each frame. A FednError of its ends the stream.
        farewell: the last message, which tells the peer of that error.
    """
    reader = asyncio.create_task(_read_all(context, receive))
    writer = asyncio.create_task(outbox.run(context.write))
    try:
        await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        if writer.done():
            writer.result()
            return "ended by the combiner"
        error = reader.exception()
        if error is not None and not isinstance(error, FednError):
            raise error
        outbox.end(farewell(error) if error is not None else None)
        await writer
        return str(error) if error is not None else "ended by the peer"
    except Unavailable as error:
        return str(error)
    except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
        return "the stream broke"
    finally:
        reader.cancel()
        writer.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)


async def _read_all(context: Context, receive: Callable[[Buffer], Awaitable[None]]) -> None:
    while isinstance(message := await context.read(), bytes):
        for frame in split(message):
            await receive(frame)
        message = frame = b""  # a piece shall not stay here until the next message comes


class TokenTimer:
    """Ends a stream when its token does, unless it was renewed.

    Args:
        on_end: told why, once.
    """

    def __init__(self, verifier: TokenVerifier, claims: Claims, on_end: Callable[[FednError], None]) -> None:
        self._verifier = verifier
        self._claims = claims
        self._on_end = on_end
        self._timer = self._arm()

    def renew(self, token: str) -> None:
        """Takes a newer token of the same bearer. Unauthenticated or Forbidden where it is none."""
        claims = self._verifier.verify(token)
        if _bearer(claims) != _bearer(self._claims):
            raise Forbidden(
                "token_of_another",
                f"the new token is for {claims.subject!r}, and the stream belongs to {self._claims.subject!r}",
                fix="Renew with a token of the same site.",
            )
        self._claims = claims
        self._timer.cancel()
        self._timer = self._arm()

    def cancel(self) -> None:
        self._timer.cancel()

    def _arm(self) -> asyncio.TimerHandle:
        remaining_s = self._claims.expires_at + LEEWAY_S - time.time()
        return asyncio.get_running_loop().call_later(max(remaining_s, 0.0), self._expired)

    def _expired(self) -> None:
        error = Unauthenticated(
            "token_expired",
            "the token of this stream expired and was not renewed",
            fix="Ask the reducer for a new token and attach again.",
            where={self._claims.role.value: self._claims.subject},
        )
        self._on_end(error)


def _bearer(claims: Claims) -> tuple[object, ...]:
    """What a newer token must have in common with the one before it."""
    return claims.subject, claims.role, claims.key_id, claims.scope
