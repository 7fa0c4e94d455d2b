"""A small real HTTPS server for tests of the REST client: answers as a test says, remembers what it was asked."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fedn.network.authority import CertificateAuthority
from fedn.network.tls import make_csr, new_private_key


@dataclass
class Asked:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """One answer; `pieces` are sent one by one, and the connection is closed behind them."""

    status: int = 200
    payload: Any = None
    body: bytes | None = None
    content_type: str = "application/json"
    pieces: list[bytes] = field(default_factory=list)
    close_without_answer: bool = False


@dataclass
class Stub:
    url: str
    ca: str
    asked: list[Asked] = field(default_factory=list)
    answers: list[Answer | Callable[[Asked], Answer]] = field(default_factory=list)
    """Given one after the other; the last one again and again."""

    def next_answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(asked) if callable(answer) else answer


@contextmanager
def rest_stub(folder: Path, *, tls: bool = True) -> Iterator[Stub]:
    """A running server on a free port of 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    stub = Stub(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}", "")
    server.stub = stub  # type: ignore[attr-defined]
    if tls:
        stub.ca = _serve_tls(server, folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _serve_tls(server: ThreadingHTTPServer, folder: Path) -> str:
    authority = CertificateAuthority.create_or_load(folder, "test")
    key = new_private_key()
    certificate = authority.sign(
        make_csr(key, "reducer"), name="reducer", role="reducer", hosts=["127.0.0.1", "localhost"], valid_days=2
    )
    (folder / "server.pem").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    pem: bytes | str = authority.certificate_pem
    return pem.decode() if isinstance(pem, bytes) else pem


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True  # a client that goes away, or distrusts us, is what some tests are about

    def _answer(self) -> None:
        size = self.headers.get("Content-Length")
        body = (
            self._chunks()
            if "chunked" in self.headers.get("Transfer-Encoding", "")
            else self.rfile.read(int(size or 0))
        )
        asked = Asked(self.command, self.path, dict(self.headers), body)
        answer: Answer = self.server.stub.next_answer(asked)  # type: ignore[attr-defined]
        if answer.close_without_answer:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        if answer.pieces:
            self.send_header("Connection", "close")
            self.end_headers()
            for piece in answer.pieces:
                self.wfile.write(piece)
            self.close_connection = True
            return
        data = answer.body if answer.body is not None else json.dumps(answer.payload).encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 (names that the base class looks for)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: tests have their own output."""
