"""Whether a program on this machine serves: asked over its own port, as its callers would, by health checks.

Not here: what the federation does (`fedn status`), which says nothing about a single program.
"""

import grpc
import urllib3
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fedn.network.join import join_of
from fedn.network.tls import grpc_channel_credentials
from fedn.plan.settings import CombinerSettings, ReducerSettings
from fedn.protocol.errors import InvalidInput, Unavailable

_OWN_NAME = "localhost"
"""Stands in each combiner's certificate."""


def check_reducer(settings: ReducerSettings, timeout_s: float) -> str:
    """Returns the address where the reducer with these settings answers.

    Raises:
        Unavailable: (`does_not_serve`) it does not answer, or with an error.
        InvalidInput: (`port_unknown`) the settings leave the port to the system.
    """
    host, port = _address(settings.bind, settings.port)
    address = f"{_bracketed(host)}:{port}"
    pool: urllib3.HTTPConnectionPool
    if settings.tls:
        named = settings.public_hosts[-1]
        authority = settings.data_dir / "ca.crt"
        pool = urllib3.HTTPSConnectionPool(
            host, port, ca_certs=str(authority), server_hostname=named, assert_hostname=named
        )
    else:
        pool = urllib3.HTTPConnectionPool(host, port)
    try:
        with pool:
            status = pool.request("GET", "/health", timeout=timeout_s, retries=False).status
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _does_not_serve("reducer", address, str(error)) from error
    if status != 200:
        raise _does_not_serve("reducer", address, f"status {status}")
    return address


def check_combiner(settings: CombinerSettings, timeout_s: float) -> str:
    """Returns the address where the combiner with these settings answers gRPC's health check; raises as the above."""
    host, port = _address(settings.bind, settings.port)
    address = f"{_bracketed(host)}:{port}"
    with _channel(settings, address) as channel:
        asked = health_pb2_grpc.HealthStub(channel)
        try:
            status = asked.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s).status
        except grpc.RpcError as error:
            raise _does_not_serve("combiner", address, f"{error.code().name}: {error.details()}") from error
    if status != health_pb2.HealthCheckResponse.SERVING:
        raise _does_not_serve("combiner", address, health_pb2.HealthCheckResponse.ServingStatus.Name(status))
    return address


def _channel(settings: CombinerSettings, address: str) -> grpc.Channel:
    if not join_of(settings).ca_fingerprint:
        return grpc.insecure_channel(address)
    folder = settings.data_dir
    try:
        authority, key, certificate = (folder.joinpath(n).read_bytes() for n in ("ca.crt", "site.key", "site.crt"))
    except FileNotFoundError as error:
        raise _does_not_serve("combiner", address, "it has not enrolled yet") from error
    credentials = grpc_channel_credentials(authority, key, certificate)
    return grpc.secure_channel(address, credentials, options=[("grpc.ssl_target_name_override", _OWN_NAME)])


def _address(bind: str, port: int) -> tuple[str, int]:
    if port == 0:
        raise InvalidInput(
            "port_unknown",
            "the settings leave the choice of the port to the system, so nothing says where to ask",
            fix="Give the program a port of its own (--port).",
            where={"field": "port"},
        )
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind), port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _does_not_serve(program: str, address: str, why: str) -> Unavailable:
    return Unavailable(
        "does_not_serve",
        f"no {program} with these settings answers: {why}",
        fix=f"See the {program}'s log; give this command the same settings (environment, file, flags) as the program.",
        where={"address": address},
    )
