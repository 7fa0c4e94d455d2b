"""How a combiner is dialled: address, trust, token, and what it means when the call ends. Knows no service."""

from dataclasses import dataclass, replace
from typing import Protocol

import grpc

from fedn.network.tls import grpc_channel_credentials
from fedn.protocol.errors import FednError, Forbidden, Unauthenticated, Unavailable

_MAX_MESSAGE_BYTES = 64 << 20
_OPTIONS = (
    # Each attempt is a fresh one: a shared subchannel would make it wait for the back-off of the one before.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
)
KEEPALIVE = (
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)
"""For streams without pings of their own: a combiner that has vanished is noticed within 25 s."""


class OwnTls(Protocol):
    """PEM of who dials, to show to combiners, and of what it trusts."""

    @property
    def ca_pem(self) -> bytes: ...

    @property
    def cert_pem(self) -> bytes: ...

    @property
    def key_pem(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a combiner listens, and how to come in."""

    combiner: str
    host: str
    port: int
    token: str
    ca: bytes
    """PEM that its certificate is verified against; empty: no TLS."""
    key: bytes | None = None
    """PEM, for mutual TLS; with `certificate`."""
    certificate: bytes | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of a call: the token."""
        return (("authorization", f"Bearer {self.token}"),)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def at(self, combiner: str, host: str, port: int) -> "Endpoint":
        """Another combiner, in the same way."""
        return replace(self, combiner=combiner, host=host, port=port)


def open_channel(endpoint: Endpoint, *more: tuple[str, int]) -> grpc.aio.Channel:
    """A channel to a combiner, not connected yet; `more` are options of gRPC, which replace ours of the same name."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    target, options = f"{host}:{endpoint.port}", tuple((dict(_OPTIONS) | dict(more)).items())
    if not endpoint.ca:
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc_channel_credentials(endpoint.ca, endpoint.key, endpoint.certificate)
    return grpc.aio.secure_channel(target, credentials, options=options)


def error_of_call(error: grpc.aio.AioRpcError, endpoint: Endpoint) -> FednError:
    """Why a call failed."""
    return error_of_status(error.code(), error.details() or "", endpoint)


def error_of_status(code: grpc.StatusCode, details: str, endpoint: Endpoint) -> FednError:
    """Why a call ended with this status."""
    where = {"combiner": endpoint.combiner, "address": endpoint.address}
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return Unauthenticated(
            "combiner_refused_token", f"the combiner does not take our token: {details}", where=where
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return Forbidden("combiner_forbids", f"the combiner does not let us attach: {details}", where=where)
    if code is grpc.StatusCode.OK:
        return combiner_lost(endpoint, "it ended the stream")
    return combiner_lost(endpoint, f"{code.name.lower()}: {details}")


def combiner_lost(endpoint: Endpoint, why: str) -> Unavailable:
    """The error for a stream that broke."""
    return Unavailable(
        "combiner_lost",
        f"the stream to the combiner broke: {why}",
        fix="The client connects again by itself.",
        where={"combiner": endpoint.combiner, "address": endpoint.address},
    )
