"""The gRPC server of a combiner: port, TLS, keepalive, access, health and reflection."""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fedn.combiner.auth import AccessInterceptor
from fedn.combiner.options import CombinerOptions, TlsFiles
from fedn.network.frames import MAX_MESSAGE_BYTES
from fedn.network.generated import client_pb2, combiner_pb2, worker_pb2
from fedn.network.tls import grpc_server_credentials
from fedn.network.tokens import TokenVerifier
from fedn.protocol.errors import Conflict, InvalidInput

CLIENT_SERVICE = client_pb2.DESCRIPTOR.services_by_name["ClientService"].full_name
LINK_SERVICE = combiner_pb2.DESCRIPTOR.services_by_name["CombinerService"].full_name
WORKER_SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead peer is noticed within 25 s, and no NAT or proxy forgets an idle stream.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # gRPC keeps a buffer for the next read of each connection, which grows to what the last reads brought: without a
    # bound, ten thousand idle clients hold an update's size each. Larger ones made nothing faster.
    ("grpc.experimental.tcp_max_read_buffer_size", 32 << 10),
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a second server on it
)

Handler = Callable[[Any], Awaitable[None]]


class CombinerServer:
    """Serves streams. `port` is known after `start`.

    Args:
        services: service to RPC to its handler, which gets the RPC's context.
        tls: None for plain text, which only a loopback address may serve.
    """

    def __init__(
        self,
        options: CombinerOptions,
        tls: TlsFiles | None,
        verifier: TokenVerifier,
        services: Mapping[str, Mapping[str, Handler]],
    ) -> None:
        if tls is None and not _is_loopback(options.bind):
            raise InvalidInput(
                "plain_text_not_local",
                f"without TLS a combiner serves only loopback addresses, not {options.bind}",
                fix="Bind to 127.0.0.1, or leave TLS on.",
            )
        self._options = options
        self._tls = tls
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs know grpc's own aio only
        self._server = grpc.aio.server(interceptors=(AccessInterceptor(verifier),), options=_CHANNEL_OPTIONS)
        self._services = tuple(services)
        self._server.add_generic_rpc_handlers(
            tuple(_streams(service, handlers) for service, handlers in services.items())
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = 0

    async def start(self) -> None:
        """Conflict (`port_taken`) where the address cannot be had."""
        host = f"[{self._options.bind}]" if ":" in self._options.bind else self._options.bind
        address = f"{host}:{self._options.port}"
        try:
            if self._tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                tls = self._tls
                credentials = grpc_server_credentials(tls.key, tls.certificate, tls.ca, self._options.mutual_tls)
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise Conflict(
                "port_taken",
                f"the combiner cannot listen on {address}",
                fix="Choose another port, or stop what listens there.",
                where={"port": self._options.port},
            ) from error
        await self._server.start()
        for service in ("", *self._services):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Refuses new RPCs, and cuts after `grace_s` those that did not end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


def _streams(service: str, handlers: Mapping[str, Handler]) -> "grpc.GenericRpcHandler[Any, Any]":
    # Without (de)serializers messages stay bytes.
    return grpc.method_handlers_generic_handler(
        service,
        {method: grpc.stream_stream_rpc_method_handler(_served(handler)) for method, handler in handlers.items()},
    )


def _served(handler: Handler) -> Callable[[object, Any], Awaitable[None]]:
    async def serve(_: object, context: Any) -> None:
        await handler(context)

    return serve


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
