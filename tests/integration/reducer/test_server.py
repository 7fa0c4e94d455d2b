"""The HTTPS server by itself, with real sockets: handshakes, silent peers, streams, stopping."""

import io
import itertools
import logging
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3

from fedn.network.tls import CertificateAuthority, client_context, make_csr, new_private_key, server_context
from fedn.protocol.errors import InvalidInput
from fedn.reducer.server import RestServer

WAIT_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a federation: its authority, a certificate of the server, one of a client, and that of a stranger."""
    authority = CertificateAuthority.create_or_load(tmp_path, "fed")
    stranger = CertificateAuthority.create_or_load(tmp_path / "stranger", "other")
    for name, role, hosts, signer in (
        ("server", "reducer", ["localhost"], authority),
        ("client", "client", [], authority),
        ("impostor", "client", [], stranger),
    ):
        key = new_private_key()
        (tmp_path / f"{name}.key").write_bytes(key)
        certificate = signer.sign(make_csr(key, name), name=name, role=role, hosts=hosts, valid_days=1)
        (tmp_path / f"{name}.crt").write_bytes(certificate)
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., RestServer]]:
    with ExitStack() as exits:

        def start(app: Any, *, mutual: bool = False, threads: int = 2, max_streams: int = 4) -> RestServer:
            context = server_context(folder / "server.crt", folder / "server.key", folder / "ca.crt", mutual)
            server = RestServer(
                app, bind="127.0.0.1", port=0, threads=threads, max_streams=max_streams, context=context
            )
            server.start()
            exits.callback(server.stop)
            return server

        yield start


@pytest.fixture
def pool(folder: Path) -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(ssl_context=client_context((folder / "ca.crt").read_bytes()), retries=False) as made:
        yield made


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ.get("SSL_CLIENT_CERT", "nobody").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def swallow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return hello(environ, start_response)


def get(pool: urllib3.PoolManager, server: RestServer, path: str = "/") -> bytes:
    return pool.request("GET", f"https://localhost:{server.port}{path}", timeout=WAIT_S).data


def connect(server: RestServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)


def test_peers_that_break_the_handshake_harm_nobody(
    serve: Callable[..., RestServer], pool: urllib3.PoolManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = serve(hello)
    with connect(server) as rubbish:
        rubbish.sendall(b"\x16\x03\x01\xff\xff rubbish")
        rubbish.shutdown(socket.SHUT_WR)
        while rubbish.recv(100):
            pass
    with connect(server) as leaving:
        leaving.sendall(b"\x16")
    with connect(server) as distrustful:
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(distrustful, server_hostname="localhost")
    assert get(pool, server) == b"nobody"
    assert caplog.records == []


def test_plain_http_is_told_to_use_https(serve: Callable[..., RestServer]) -> None:
    server = serve(hello)
    with connect(server) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while piece := plain.recv(1000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ") and b"https://" in answer


def test_silent_peers_keep_nobody_waiting(serve: Callable[..., RestServer], pool: urllib3.PoolManager) -> None:
    server = serve(hello, threads=2)
    with ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(connect(server))
        assert get(pool, server) == b"nobody"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -1",
        b"Content-Length: +5",
        b"Content-Length: 1_0",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    ],
)
def test_a_body_without_a_clear_length_is_not_read(
    serve: Callable[..., RestServer], folder: Path, headers: bytes
) -> None:
    server = serve(swallow)
    context = client_context((folder / "ca.crt").read_bytes())
    with context.wrap_socket(connect(server), server_hostname="localhost") as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 400 ")


def test_peers_that_drip_their_request_do_not_keep_the_threads(
    serve: Callable[..., RestServer], pool: urllib3.PoolManager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes long before a silent peer would be given up."""
    monkeypatch.setattr("fedn.reducer.server._IDLE_S", 1.0)
    server, done = serve(swallow, threads=2), threading.Event()
    context = client_context((folder / "ca.crt").read_bytes())

    def drip(begin: bytes) -> None:
        with context.wrap_socket(connect(server), server_hostname="localhost") as peer:
            try:
                peer.sendall(begin)
                while not done.wait(0.05):
                    peer.sendall(b"x")
            except OSError:
                return

    begins = (b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n") * 2
    with ThreadPoolExecutor(len(begins)) as dripping:
        for begin in begins:
            dripping.submit(drip, begin)
        try:
            assert get(pool, server) == b"nobody"
        finally:
            done.set()


def test_a_slow_upload_that_goes_on_is_waited_for(
    serve: Callable[..., RestServer], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the server's clock each piece takes half of a second to come, and all of them three times its patience."""
    half_seconds = itertools.count()
    monkeypatch.setattr("fedn.reducer.server.time", SimpleNamespace(monotonic=lambda: next(half_seconds) / 2))
    server = serve(swallow)
    context = client_context((folder / "ca.crt").read_bytes())
    with context.wrap_socket(connect(server), server_hostname="localhost") as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 737280\r\n\r\n")
        for _ in range(180):
            peer.sendall(bytes(4096))
        assert peer.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_client_certificate_is_seen_and_a_strangers_refused(
    serve: Callable[..., RestServer], pool: urllib3.PoolManager, folder: Path
) -> None:
    server = serve(hello, mutual=True)
    ca = (folder / "ca.crt").read_bytes()
    assert get(pool, server) == b"nobody"
    own = client_context(ca, folder / "client.crt", folder / "client.key")
    with urllib3.PoolManager(ssl_context=own, retries=False) as mine:
        shown = get(mine, server)
    assert ssl.PEM_cert_to_DER_cert(shown.decode()) == ssl.PEM_cert_to_DER_cert((folder / "client.crt").read_text())
    foreign = client_context(ca, folder / "impostor.crt", folder / "impostor.key")
    with urllib3.PoolManager(ssl_context=foreign, retries=False) as other, pytest.raises(urllib3.exceptions.HTTPError):
        get(other, server)
    assert get(pool, server) == b"nobody"


class Streams:
    """An app whose /stream lasts until the test lets it go; everything else answers at once."""

    def __init__(self) -> None:
        self.server: RestServer | None = None
        self.gone = threading.Semaphore(0)
        self.pieces: list[queue.SimpleQueue[bytes]] = []
        """Of each stream."""

    def send(self, piece: bytes) -> None:
        """To every stream."""
        for pieces in self.pieces:
            pieces.put(piece)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/stream":
            return hello(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        assert self.server is not None
        pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.pieces.append(pieces)
        self.server.make_room(len(self.pieces))
        return self._stream(pieces)

    def _stream(self, pieces: "queue.SimpleQueue[bytes]") -> Iterator[bytes]:
        try:
            yield b"first\n"
            while piece := pieces.get(timeout=WAIT_S):
                yield piece
        finally:
            self.gone.release()


def test_open_streams_take_no_thread_from_requests(serve: Callable[..., RestServer], folder: Path) -> None:
    app = Streams()
    server = app.server = serve(app, threads=2, max_streams=4)
    context = client_context((folder / "ca.crt").read_bytes())
    with urllib3.PoolManager(ssl_context=context, retries=False, maxsize=8) as pool:
        streams = [
            pool.request("GET", f"https://localhost:{server.port}/stream", preload_content=False, timeout=WAIT_S)
            for _ in range(4)
        ]
        assert [stream.read1(100) for stream in streams] == [b"first\n"] * 4
        assert get(pool, server) == b"nobody"
        app.send(b"at once\n")
        assert [stream.read1(100) for stream in streams] == [b"at once\n"] * 4
        for stream in streams:
            stream.close()
        # The next pieces meet closed connections: the streams end.
        for _ in range(100):
            app.send(b"x" * 100_000)
        for _ in range(4):
            assert app.gone.acquire(timeout=WAIT_S)
        assert get(pool, server) == b"nobody"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 8000000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1dcd65000\r\n"]
)
def test_a_large_body_that_nobody_wants_is_not_read(
    serve: Callable[..., RestServer], folder: Path, framing: bytes
) -> None:
    def refuse(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("403 Forbidden", [("Content-Length", "0")])
        return [b""]

    server = serve(refuse)
    context = client_context((folder / "ca.crt").read_bytes())
    with connect(server) as raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + framing + b"x" * 3_000_000)
        answer = sock.recv(1000)
        assert answer.startswith(b"HTTP/1.1 403 ") and b"Connection: close" in answer


def test_bodies_in_chunks_are_read_and_the_connection_stays(serve: Callable[..., RestServer], folder: Path) -> None:
    def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = serve(echo)
    context = client_context((folder / "ca.crt").read_bytes())
    with urllib3.PoolManager(ssl_context=context, retries=False, maxsize=1) as pool:
        for _ in range(3):
            body = io.BytesIO(bytes(range(256)) * 10_000)
            answer = pool.request("POST", f"https://localhost:{server.port}/", body=body, timeout=WAIT_S)
            assert answer.data == body.getvalue()
        assert pool.connection_from_host("localhost", server.port, "https").num_connections == 1


def test_an_address_in_use_is_told(serve: Callable[..., RestServer], folder: Path) -> None:
    server = serve(hello)
    second = RestServer(hello, bind="127.0.0.1", port=server.port, threads=2, max_streams=1, context=None)
    with pytest.raises(InvalidInput, match="cannot_listen"):
        second.start()
