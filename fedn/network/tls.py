"""TLS contexts of the federation's own authority, for REST and gRPC, and the authority itself at first contact.

The public web's authorities play no part. Also the one place to import keys and certificates from.
"""

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from fedn.network import keys
from fedn.network.authority import REDUCER, CertificateAuthority, Clock, check_host
from fedn.network.keys import (
    certificate_ends_at,
    fingerprint,
    make_csr,
    new_private_key,
    public_key_id,
    public_key_pem,
)
from fedn.protocol.errors import InvalidInput, Unauthenticated, Unavailable

__all__ = [
    "REDUCER",
    "CertificateAuthority",
    "Clock",
    "certificate_ends_at",
    "check_host",
    "client_context",
    "fetch_pinned_ca",
    "fingerprint",
    "grpc_channel_credentials",
    "grpc_server_credentials",
    "make_csr",
    "new_private_key",
    "public_key_id",
    "public_key_pem",
    "server_context",
]

CA_ROUTE = "/api/v1/ca"
_MAX_PEM_BYTES = 64 * 1024


def server_context(certificate_path: Path, key_path: Path, ca_path: Path, mutual: bool) -> ssl.SSLContext:
    """TLS 1.2 or newer for the reducer's REST server.

    With `mutual`, callers may show a certificate and a wrong one is refused. The handshake does not demand one, since a
    site that enrols has none yet: the routes do, by `access.check_certificate`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_path, key_path)
    if mutual:
        context.load_verify_locations(ca_path)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca_pem: bytes, cert_path: Path | None = None, key_path: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer that trusts this one authority, checks the server's name, and shows a certificate if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput(
            "bad_certificate", "the authority's certificate cannot be read", fix="Fetch it again from the reducer."
        ) from error
    if cert_path is not None:
        context.load_cert_chain(cert_path, key_path)
    return context


def grpc_server_credentials(key: bytes, cert: bytes, ca: bytes, mutual: bool) -> grpc.ServerCredentials:
    """Credentials (all PEM) of a gRPC server. With `mutual`, only callers certified by `ca` get a connection."""
    return grpc.ssl_server_credentials(
        [(key, cert)], root_certificates=ca if mutual else None, require_client_auth=mutual
    )


def grpc_channel_credentials(ca: bytes, key: bytes | None = None, cert: bytes | None = None) -> grpc.ChannelCredentials:
    """Credentials (all PEM) of a gRPC channel that trusts this one authority, and shows a certificate if given."""
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


def fetch_pinned_ca(url: str, fingerprint: str, timeout_s: float) -> bytes:
    """The authority's certificate (PEM) from the reducer at `url`, which must itself be certified by it.

    Args:
        url: https address of the reducer.
        fingerprint: `sha256:<hex>` from the join string.
        timeout_s: seconds without an answer until it is given up.

    Raises:
        Unauthenticated: (`wrong_ca`) another fingerprint, or the server is not certified by that authority;
            somebody may be in between.
        Unavailable: (`reducer_unreachable`) no server answers there.
        InvalidInput: (`bad_url`) not an https address.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise InvalidInput("bad_url", f"{url!r} is not an https address", fix="Use the address in the join string.")
    # Nothing is believed of this connection: the answer counts only if it is what the fingerprint names.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    pem = _get_ca(parts.hostname, parts.port, unverified, timeout_s, url)
    if _fingerprint_or_none(pem) != fingerprint:
        raise _wrong_ca(url, "it answers with another authority than the join string names")
    _get_ca(parts.hostname, parts.port, client_context(pem), timeout_s, url)
    return pem


def _get_ca(host: str, port: int | None, context: ssl.SSLContext, timeout_s: float, url: str) -> bytes:
    connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    try:
        connection.request("GET", CA_ROUTE)
        response = connection.getresponse()
        body = response.read(_MAX_PEM_BYTES)
    except ssl.SSLCertVerificationError as error:
        raise _wrong_ca(url, f"its own certificate does not hold: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            "reducer_unreachable",
            f"no reducer answers: {error}",
            fix="Check the address, the network and that the reducer runs (its log says where it listens).",
            where={"url": url},
        ) from error
    finally:
        connection.close()
    return body


def _fingerprint_or_none(pem: bytes) -> str | None:
    try:
        return keys.fingerprint(pem)
    except InvalidInput:
        return None


def _wrong_ca(url: str, why: str) -> Unauthenticated:
    return Unauthenticated(
        "wrong_ca",
        f"the server is not the reducer that was meant: {why}",
        fix=(
            "Get a new join string from the reducer's operator (`fedn token create`); if this one is new, check that "
            "its address is in the reducer's public_hosts, and that nobody stands in between."
        ),
        where={"url": url},
    )
