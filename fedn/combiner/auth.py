"""Who calls: every RPC is checked against the one table of access before its handler sees it."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from fedn.network.access import authorize_rpc, check_certificate
from fedn.network.tokens import Claims, TokenVerifier
from fedn.protocol.errors import FednError

CODE_KEY = "fedn-code"
"""Key of the trailing metadata that carries the error's code."""

# The classes of the stubs take type arguments that those of the library do not.
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    Handler = grpc.RpcMethodHandler
    Interceptor = grpc.aio.ServerInterceptor

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

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        try:
            claims = self._claims(handler_call_details)
            authorize_rpc(handler_call_details.method, claims)
        except FednError as error:
            return _denying(error)
        _caller.set(claims)
        return await continuation(handler_call_details)

    def _claims(self, details: grpc.HandlerCallDetails) -> Claims | None:
        for key, value in details.invocation_metadata:
            if key == "authorization":
                scheme, _, token = str(value).partition(" ")
                return self._verifier.verify(token.strip() if scheme.lower() == "bearer" else "")
        return None


async def check_peer_certificate(context: grpc.aio.ServicerContext[Any, Any], claims: Claims) -> None:
    """With mutual TLS: the connection's certificate must be the token bearer's; else the RPC ends here."""
    found = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    try:
        check_certificate(claims, found)
    except FednError as error:
        await refuse(context, error)


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: FednError) -> NoReturn:
    """Ends an RPC with the error's status, its sentence and its code."""
    await context.abort(grpc.StatusCode[error.grpc_status], str(error), ((CODE_KEY, error.code),))
    raise AssertionError("abort does not return")


def _denying(error: FednError) -> Handler:
    async def deny(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await refuse(context, error)

    # A handler of streams is called at once, whatever the caller sends.
    return grpc.stream_stream_rpc_method_handler(deny)
