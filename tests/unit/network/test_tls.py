"""The authority and TLS made of it, over real connections on loopback."""

import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedn.network import tls
from fedn.network.tls import REDUCER, CertificateAuthority
from fedn.network.tokens import Role
from fedn.protocol.errors import Conflict, FednError, IntegrityError, InvalidInput, Unauthenticated, Unavailable

DEADLINE_S = 30


@dataclass(frozen=True)
class Site:
    key: bytes
    certificate: bytes
    folder: Path

    @property
    def key_path(self) -> Path:
        return self.folder / "key.pem"

    @property
    def certificate_path(self) -> Path:
        return self.folder / "certificate.pem"


def make_site(
    ca: CertificateAuthority, folder: Path, *, role: str = REDUCER, hosts: tuple[str, ...] = ("localhost", "127.0.0.1")
) -> Site:
    key = tls.new_private_key()
    certificate = ca.sign(tls.make_csr(key, "site"), name="site", role=role, hosts=hosts, valid_days=30)
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(key, certificate, folder)
    site.key_path.write_bytes(key)
    site.certificate_path.write_bytes(certificate)
    return site


@pytest.fixture
def ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create_or_load(tmp_path / "ca", "f")


@pytest.fixture
def foreign_ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create_or_load(tmp_path / "foreign-ca", "f")


# --- gRPC


def _echo(request: bytes, _: grpc.ServicerContext) -> bytes:
    return request


_HANDLER = grpc.method_handlers_generic_handler("test", {"Echo": grpc.unary_unary_rpc_method_handler(_echo)})


@contextmanager
def grpc_server(credentials: grpc.ServerCredentials) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_HANDLER,))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def say_hello(host: str, port: int, credentials: grpc.ChannelCredentials) -> bytes:
    with grpc.secure_channel(f"{host}:{port}", credentials) as channel:
        call = channel.unary_unary("/test/Echo", request_serializer=bytes, response_deserializer=bytes)
        answer: bytes = call(b"hello", timeout=DEADLINE_S, wait_for_ready=False)
        return answer


def assert_refused(host: str, port: int, credentials: grpc.ChannelCredentials) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        say_hello(host, port, credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_grpc_works_with_p256_certificates_by_name_and_by_address(
    ca: CertificateAuthority, tmp_path: Path, host: str
) -> None:
    server = make_site(ca, tmp_path / "server", role=Role.COMBINER)
    credentials = tls.grpc_server_credentials(server.key, server.certificate, ca.certificate_pem, False)
    with grpc_server(credentials) as port:
        assert say_hello(host, port, tls.grpc_channel_credentials(ca.certificate_pem)) == b"hello"


def test_grpc_client_refuses_a_server_of_a_foreign_authority(
    ca: CertificateAuthority, foreign_ca: CertificateAuthority, tmp_path: Path
) -> None:
    server = make_site(foreign_ca, tmp_path / "server")
    credentials = tls.grpc_server_credentials(server.key, server.certificate, foreign_ca.certificate_pem, False)
    with grpc_server(credentials) as port:
        assert_refused("127.0.0.1", port, tls.grpc_channel_credentials(ca.certificate_pem))


def test_grpc_client_refuses_a_server_under_another_address(ca: CertificateAuthority, tmp_path: Path) -> None:
    server = make_site(ca, tmp_path / "server", hosts=("10.0.0.1", "elsewhere.example.org"))
    credentials = tls.grpc_server_credentials(server.key, server.certificate, ca.certificate_pem, False)
    with grpc_server(credentials) as port:
        assert_refused("127.0.0.1", port, tls.grpc_channel_credentials(ca.certificate_pem))


def test_grpc_client_refuses_a_client_certificate_at_a_server(ca: CertificateAuthority, tmp_path: Path) -> None:
    impostor = make_site(ca, tmp_path / "client", role=Role.CLIENT, hosts=())
    credentials = tls.grpc_server_credentials(impostor.key, impostor.certificate, ca.certificate_pem, False)
    with grpc_server(credentials) as port:
        assert_refused("127.0.0.1", port, tls.grpc_channel_credentials(ca.certificate_pem))


def test_mutual_tls_lets_in_only_callers_of_the_same_authority(
    ca: CertificateAuthority, foreign_ca: CertificateAuthority, tmp_path: Path
) -> None:
    server = make_site(ca, tmp_path / "server")
    client = make_site(ca, tmp_path / "client", role=Role.CLIENT, hosts=())
    stranger = make_site(foreign_ca, tmp_path / "stranger", role=Role.CLIENT, hosts=())
    root = ca.certificate_pem
    with grpc_server(tls.grpc_server_credentials(server.key, server.certificate, root, True)) as port:
        known = tls.grpc_channel_credentials(root, client.key, client.certificate)
        assert say_hello("127.0.0.1", port, known) == b"hello"
        assert_refused("127.0.0.1", port, tls.grpc_channel_credentials(root))
        assert_refused("127.0.0.1", port, tls.grpc_channel_credentials(root, stranger.key, stranger.certificate))


def test_mutual_tls_refuses_an_expired_certificate(tmp_path: Path) -> None:
    ca = CertificateAuthority.create_or_load(tmp_path / "ca", "f")
    long_ago = CertificateAuthority.create_or_load(tmp_path / "ca", "f", clock=days_from_now(-31))
    server = make_site(ca, tmp_path / "server")
    client = make_site(long_ago, tmp_path / "client", role=Role.CLIENT, hosts=())
    root = ca.certificate_pem
    with grpc_server(tls.grpc_server_credentials(server.key, server.certificate, root, True)) as port:
        assert_refused("127.0.0.1", port, tls.grpc_channel_credentials(root, client.key, client.certificate))


# --- HTTPS


class _ServesCa(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _HttpsServer)
        body = self.server.answers if self.path == "/api/v1/ca" else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


class _HttpsServer(HTTPServer):
    answers: bytes

    def handle_error(self, request: object, client_address: object) -> None:
        return


@contextmanager
def https_server(context: ssl.SSLContext, answers: bytes) -> Iterator[int]:
    server = _HttpsServer(("127.0.0.1", 0), _ServesCa, bind_and_activate=True)
    server.answers = answers
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> int:
    connection = HTTPSConnection(host, port, timeout=DEADLINE_S, context=context)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


def reducer_context(site: Site, ca_path: Path, *, mutual: bool = False) -> ssl.SSLContext:
    return tls.server_context(site.certificate_path, site.key_path, ca_path, mutual)


@pytest.fixture
def ca_path(ca: CertificateAuthority, tmp_path: Path) -> Path:
    return tmp_path / "ca" / "ca.crt"


def test_https_is_verified_strictly(ca: CertificateAuthority, ca_path: Path, tmp_path: Path) -> None:
    site = make_site(ca, tmp_path / "server")
    with https_server(reducer_context(site, ca_path), b"") as port:
        assert get(port, tls.client_context(ca.certificate_pem)) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            get(port, ssl.create_default_context())


def test_https_refuses_an_expired_server(ca: CertificateAuthority, ca_path: Path, tmp_path: Path) -> None:
    long_ago = CertificateAuthority.create_or_load(tmp_path / "ca", "f", clock=days_from_now(-31))
    site = make_site(long_ago, tmp_path / "server")
    with (
        https_server(reducer_context(site, ca_path), b"") as port,
        pytest.raises(ssl.SSLCertVerificationError, match="expired"),
    ):
        get(port, tls.client_context(ca.certificate_pem))


def test_mutual_https_lets_in_callers_without_a_certificate_but_none_with_a_foreign_one(
    ca: CertificateAuthority, foreign_ca: CertificateAuthority, ca_path: Path, tmp_path: Path
) -> None:
    site = make_site(ca, tmp_path / "server")
    client = make_site(ca, tmp_path / "client", role=Role.CLIENT, hosts=())
    stranger = make_site(foreign_ca, tmp_path / "stranger", role=Role.CLIENT, hosts=())
    root = ca.certificate_pem
    with https_server(reducer_context(site, ca_path, mutual=True), b"") as port:
        assert get(port, tls.client_context(root)) == 200
        assert get(port, tls.client_context(root, client.certificate_path, client.key_path)) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(port, tls.client_context(root, stranger.certificate_path, stranger.key_path))


def test_pinned_authority_is_fetched_before_there_is_trust(
    ca: CertificateAuthority, ca_path: Path, tmp_path: Path
) -> None:
    site = make_site(ca, tmp_path / "server")
    with https_server(reducer_context(site, ca_path), ca.certificate_pem) as port:
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{port}"
            assert tls.fetch_pinned_ca(url, ca.fingerprint, DEADLINE_S) == ca.certificate_pem


def test_authority_with_another_fingerprint_is_refused(
    ca: CertificateAuthority, foreign_ca: CertificateAuthority, ca_path: Path, tmp_path: Path
) -> None:
    site = make_site(ca, tmp_path / "server")
    for answers in (ca.certificate_pem, b"no certificate", b""):
        with (
            https_server(reducer_context(site, ca_path), answers) as port,
            pytest.raises(Unauthenticated, match="wrong_ca"),
        ):
            tls.fetch_pinned_ca(f"https://127.0.0.1:{port}", foreign_ca.fingerprint, DEADLINE_S)


def test_right_authority_handed_out_by_somebody_in_between_is_refused(
    ca: CertificateAuthority, foreign_ca: CertificateAuthority, ca_path: Path, tmp_path: Path
) -> None:
    in_between = make_site(foreign_ca, tmp_path / "server")
    with (
        https_server(reducer_context(in_between, ca_path), ca.certificate_pem) as port,
        pytest.raises(Unauthenticated, match="wrong_ca"),
    ):
        tls.fetch_pinned_ca(f"https://127.0.0.1:{port}", ca.fingerprint, DEADLINE_S)


def test_reducer_that_is_away_is_named_as_such(ca: CertificateAuthority) -> None:
    with pytest.raises(Unavailable, match="reducer_unreachable"):
        tls.fetch_pinned_ca("https://127.0.0.1:1", ca.fingerprint, DEADLINE_S)
    with pytest.raises(InvalidInput, match="bad_url"):
        tls.fetch_pinned_ca("http://127.0.0.1:1", ca.fingerprint, DEADLINE_S)


# --- the authority


def days_from_now(days: float) -> tls.Clock:
    return lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=days)


def test_authority_is_the_same_after_a_restart_and_its_key_is_private(tmp_path: Path) -> None:
    first = CertificateAuthority.create_or_load(tmp_path, "f")
    again = CertificateAuthority.create_or_load(tmp_path, "f")
    assert first.certificate_pem == again.certificate_pem
    assert first.fingerprint == tls.fingerprint(first.certificate_pem)
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600


def test_authority_of_another_federation_is_not_used(tmp_path: Path) -> None:
    CertificateAuthority.create_or_load(tmp_path, "f")
    with pytest.raises(Conflict, match="other_federation"):
        CertificateAuthority.create_or_load(tmp_path, "g")


def test_damaged_authority_is_refused_not_replaced(tmp_path: Path) -> None:
    CertificateAuthority.create_or_load(tmp_path, "f")
    (tmp_path / "ca.crt").write_bytes(b"rubbish")
    with pytest.raises(IntegrityError, match="bad_ca"):
        CertificateAuthority.create_or_load(tmp_path, "f")


def test_expired_authority_and_one_of_another_key_are_refused(tmp_path: Path) -> None:
    CertificateAuthority.create_or_load(tmp_path / "a", "f")
    with pytest.raises(IntegrityError, match="expired"):
        CertificateAuthority.create_or_load(tmp_path / "a", "f", clock=days_from_now(4000))
    other = CertificateAuthority.create_or_load(tmp_path / "b", "f")
    (tmp_path / "a" / "ca.crt").write_bytes(other.certificate_pem)
    with pytest.raises(IntegrityError, match=r"does not belong to ca\.key"):
        CertificateAuthority.create_or_load(tmp_path / "a", "f")


def test_certificate_says_what_the_authority_decided_not_what_the_request_asked(ca: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "reducer")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("reducer")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = ca.sign(request, name="c1", role=Role.COMBINER, hosts=["c1.example.org", "10.0.0.7", "::1"], valid_days=9)
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.subject.rfc4514_string() == "OU=combiner,CN=c1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["c1.example.org"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "::1"]
    assert tls.public_key_id(pem) == tls.public_key_id(request)


def test_client_certificate_opens_connections_only(ca: CertificateAuthority) -> None:
    request = tls.make_csr(tls.new_private_key(), "c")
    certificate = x509.load_pem_x509_certificate(ca.sign(request, name="c", role=Role.CLIENT, hosts=[], valid_days=1))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(InvalidInput, match="hosts_not_allowed"):
        ca.sign(request, name="c", role=Role.CLIENT, hosts=["reducer"], valid_days=1)


def test_certificate_never_outlives_the_authority(ca: CertificateAuthority) -> None:
    request = tls.make_csr(tls.new_private_key(), "c")
    pem = ca.sign(request, name="c", role=Role.CLIENT, hosts=[], valid_days=100_000)
    assert tls.certificate_ends_at(pem) == tls.certificate_ends_at(ca.certificate_pem)


@pytest.mark.parametrize("name", ["x" * 64, "Ω" * 64, "Ü👩‍⚕️", 'a,b="c"+d'])
def test_any_name_fits_into_a_certificate(ca: CertificateAuthority, name: str) -> None:
    request = tls.make_csr(tls.new_private_key(), name)
    certificate = x509.load_pem_x509_certificate(ca.sign(request, name=name, role=Role.CLIENT, hosts=[], valid_days=1))
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(common, str) and name.startswith(common) and common


@pytest.mark.parametrize(
    "host", ["", "*.example.org", "a b", "host:80", "-a", "a..b", "x" * 64, "http://a", "a/b", "1.2.3.4/8"]
)
def test_host_that_is_none_is_refused(ca: CertificateAuthority, host: str) -> None:
    request = tls.make_csr(tls.new_private_key(), "c")
    with pytest.raises(InvalidInput, match="bad_host"):
        ca.sign(request, name="c", role=Role.COMBINER, hosts=[host], valid_days=1)


def test_host_names_of_other_scripts_are_encoded(ca: CertificateAuthority) -> None:
    request = tls.make_csr(tls.new_private_key(), "c")
    pem = ca.sign(request, name="c", role=Role.COMBINER, hosts=["bücher.example"], valid_days=1)
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["xn--bcher-kva.example"]


def test_request_must_be_genuine_and_for_a_p256_key(ca: CertificateAuthority) -> None:
    good = tls.make_csr(tls.new_private_key(), "c")
    der = bytearray(x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "c")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    other_keys: list[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
    ]
    others = [builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) for key in other_keys]
    for request in (forged, b"", b"rubbish", ca.certificate_pem, *others):
        with pytest.raises(InvalidInput, match="bad_csr"):
            ca.sign(request, name="c", role=Role.CLIENT, hosts=[], valid_days=1)


def test_key_has_one_id_in_all_its_forms(ca: CertificateAuthority) -> None:
    key = tls.new_private_key()
    request = tls.make_csr(key, "c")
    certificate = ca.sign(request, name="c", role=Role.CLIENT, hosts=[], valid_days=1)
    forms = [key, tls.public_key_pem(key), request, certificate]
    assert len({tls.public_key_id(form) for form in forms}) == 1
    assert tls.public_key_id(key).startswith("sha256:") and len(tls.public_key_id(key)) == 71
    assert tls.public_key_id(tls.new_private_key()) != tls.public_key_id(key)


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_rubbish_is_no_key_and_no_certificate(pem: bytes) -> None:
    for function in (tls.public_key_id, tls.fingerprint, tls.client_context):
        with pytest.raises(FednError):
            function(pem)
