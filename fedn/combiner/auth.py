"""Who calls: every RPC is checked against the one table of access before its handler sees it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from fedn.combiner.options import HELLO_TIMEOUT_S
from fedn.network.access import authorize_rpc, check_certificate
from fedn.network.tokens import Claims, TokenVerifier
from fedn.protocol.errors import FednError

CODE_KEY = "fedn-code"
"""Key of the trailing metadata that carries the error's code."""

_HEARD_AT_ONCE = 16
"""Callers without a right to call whose first message is taken at the same time: it may have 8 MiB."""

# The classes of the stubs take type arguments that those of the library do not.
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.aio.ServerInterceptor[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]
else:
    Handler = grpc.RpcMethodHandler
    Interceptor = grpc.aio.ServerInterceptor
    Context = grpc.aio.ServicerContext

_caller: ContextVar[Claims | None] = ContextVar("fedn_combiner_caller", default=None)


def caller() -> Claims:
    """Whose RPC this is. To be asked in a handler of an RPC that needs a token."""
    claims = _caller.get()
    assert claims is not None  # the table lets nobody in without a token here
    return claims


class AccessInterceptor(Interceptor):
    """Denies what the table does not allow, and remembers who calls."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._hearing = asyncio.Semaphore(_HEARD_AT_ONCE)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        try:
            claims = self._claims(handler_call_details)
            authorize_rpc(handler_call_details.method, claims)
        except FednError as error:
            return self._denying(error)
        _caller.set(claims)
        return await continuation(handler_call_details)

    def _claims(self, details: grpc.HandlerCallDetails) -> Claims | None:
        for key, value in details.invocation_metadata:
            if key == "authorization":
                scheme, _, token = str(value).partition(" ")
                return self._verifier.verify(token.strip() if scheme.lower() == "bearer" else "")
        return None

    def _denying(self, error: FednError) -> Handler:
        async def deny(_: object, context: Context) -> None:
            await _hear(context, self._hearing)
            await refuse(context, error)

        # A handler of streams is called at once, whatever the caller sends.
        return grpc.stream_stream_rpc_method_handler(deny)


async def check_peer_certificate(context: Context, claims: Claims) -> None:
    """With mutual TLS: the connection's certificate must be the token bearer's; else the RPC ends here."""
    found = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    try:
        check_certificate(claims, found)
    except FednError as error:
        await _hear(context, contextlib.nullcontext())
        await refuse(context, error)


async def refuse(context: Context, error: FednError) -> NoReturn:
    """Ends an RPC with the error's status, its sentence and its code."""
    await context.abort(grpc.StatusCode[error.grpc_status], str(error), ((CODE_KEY, error.code),))
    raise AssertionError("abort does not return")


async def _hear(context: Context, turn: contextlib.AbstractAsyncContextManager[object]) -> None:
    """Takes the first message of a caller that is to be denied, or waits until it had its time to send it.

    A caller in Python that is denied before it writes may be told INTERNAL, and not why (grpc/grpc#36066): a write that
    fails because the call has ended replaces the status with which it ended.

    Args:
        turn: is held meanwhile.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HELLO_TIMEOUT_S), turn:
            await context.read()
