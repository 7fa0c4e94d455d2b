"""The HTTPS server: cheroot with a bounded pool of threads, TLS handshakes off the accepting thread, and room for
event streams.

A new connection waits in the selector until its first bytes are there, and the handshake is done by a worker: neither
a silent nor a broken peer keeps others waiting, and none of them leaves a traceback.
"""

import io
import logging
import socket
import ssl
import threading
import time
from typing import Any

from cheroot import wsgi
from cheroot.makefile import StreamReader
from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.ssl import Adapter
from cheroot.workers.threadpool import ThreadPool

from fedn.protocol.errors import InvalidInput
from fedn.reducer.chunked import ChunkedBody

log = logging.getLogger(__name__)

_HANDSHAKE_S = 10.0
_IDLE_S = 30
"""Seconds without a byte after which a connection, or a transfer on it, is given up."""
_LEAST_BYTES_S = 4 << 10
"""Bytes a second that a request has to bring. Slower ones use up the patience of _IDLE_S, and then time out."""
_STOP_S = 5
_MAX_HEADER_BYTES = 64 << 10
_MAX_UNREAD_BYTES = 1 << 20
"""Of a body that the app did not read: more of it ends the connection."""
_LINGER_S = 2.0
_LINGER_BYTES = 16 << 20
"""So long, and so many bytes, a peer that is still sending is listened to, that it may see our answer."""
_MAX_WAITING = 1024
"""Connections with a request that wait for a thread; more are answered with 503."""

_KEPT_CONNECTIONS = 512
"""Open at once; with more, each is closed behind its answer. A site asks twice when it joins, and a thousand at once
shall not pay for two handshakes each."""

_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks HTTPS only: use https://\n"
)


class RestServer:
    """Serves a WSGI app until it is stopped.

    Args:
        app: the WSGI app.
        bind: address to listen at.
        port: 0 takes any free one.
        threads: requests answered at once, event streams apart.
        max_streams: event streams at once; each needs a thread of its own while it is open.
        context: TLS; None serves plain HTTP.
    """

    def __init__(
        self, app: Any, *, bind: str, port: int, threads: int, max_streams: int, context: ssl.SSLContext | None
    ) -> None:
        self._threads = threads
        self._growing = threading.Lock()
        self._server = _Server((bind, port), app, context, threads, max_streams)
        self._thread = threading.Thread(target=self._serve, name="rest")

    def start(self) -> None:
        """Listens. InvalidInput (`cannot_listen`) where the address is taken or is not this machine's."""
        try:
            self._server.prepare()
        except OSError as error:
            host, port = self._server.bind_addr
            raise InvalidInput(
                "cannot_listen",
                f"the reducer cannot listen: {error}",
                fix="Choose another bind or port, or stop the program that listens there.",
                where={"address": f"{host}:{port}"},
            ) from error
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.bind_addr[1])

    def make_room(self, streams: int) -> None:
        """Sees to it that `threads` requests can be answered beside so many open event streams."""
        pool = self._server.requests
        with self._growing:
            missing = self._threads + streams - len(pool._threads)
            if missing > 0:
                pool.grow(missing)

    def stop(self) -> None:
        """Stops listening, lets running requests end for 5 seconds, then cuts them off."""
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        self._server.serve()


class _TlsAdapter(Adapter):
    """Wraps sockets without a handshake: the worker that takes the connection does it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}

    def get_environ(self) -> dict[str, str]:
        return {"wsgi.url_scheme": "https", "HTTPS": "on"}

    def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = -1) -> Any:
        return _makefile(sock, mode, bufsize)


class _Writer:
    """Writes to a socket at once. cheroot's own copies what is left of a piece with each TLS record of 16 KiB."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        self._sock.sendall(data)
        self.bytes_written += len(data)
        return len(data)


class _PacedSocket(socket.SocketIO):
    """Reads from a socket, with bounded patience: a few peers that drip their requests would hold every thread."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, "r")
        self._socket = sock
        self._patience_s = float(_IDLE_S)

    def renew_patience(self) -> None:
        """A new request begins."""
        self._patience_s = float(_IDLE_S)

    def readinto(self, buffer: Any) -> int | None:
        if self._patience_s <= 0:
            raise TimeoutError("timed out")
        begun = time.monotonic()
        self._socket.settimeout(self._patience_s)
        count = super().readinto(buffer)
        self._socket.settimeout(_IDLE_S)
        waited_s = time.monotonic() - begun
        self._patience_s = min(self._patience_s - waited_s + (count or 0) / _LEAST_BYTES_S, float(_IDLE_S))
        return count


class _Reader(StreamReader):
    """cheroot's, on a paced socket."""

    def __init__(self, sock: socket.socket, bufsize: int) -> None:
        self._paced = _PacedSocket(sock)
        # Past cheroot's own constructor, which would open the socket in its way.
        super(StreamReader, self).__init__(self._paced, bufsize if bufsize > 0 else io.DEFAULT_BUFFER_SIZE)
        self.bytes_read = 0

    def renew_patience(self) -> None:
        self._paced.renew_patience()


def _makefile(sock: socket.socket, mode: str, bufsize: int) -> Any:
    return _Writer(sock) if "w" in mode else _Reader(sock, bufsize)


class _Request(HTTPRequest):
    """A request whose body may be left unread. cheroot would read all of it into memory, to find what follows."""

    def read_request_headers(self) -> bool:
        """Whether they are good. cheroot would read a body of -1 bytes until the peer ends, however much that is."""
        if not super().read_request_headers():  # type: ignore[no-untyped-call]
            return False
        length = self.inheaders.get(b"Content-Length")
        # With two lengths, a proxy before us could see another request than we do.
        if length is None or (length.isdigit() and b"Transfer-Encoding" not in self.inheaders):
            return True
        self.simple_response("400 Bad Request", "The length of the body is not clear.")
        return False

    def send_headers(self) -> None:
        if isinstance(self.rfile, ChunkedBody):
            self.conn.unread = not self.rfile.ended
        else:
            self.conn.unread = getattr(self.rfile, "remaining", 0) > _MAX_UNREAD_BYTES
        self.close_connection = self.close_connection or self.conn.unread
        super().send_headers()


class _Gateway(wsgi.Gateway_10):
    def __init__(self, request: _Request) -> None:
        if request.chunked_read:
            request.rfile = ChunkedBody(request.conn.rfile)
        super().__init__(request)


class _Connection(HTTPConnection):
    """A connection that may still have its handshake before it."""

    RequestHandlerClass = _Request

    fresh = True
    """Not read from yet."""
    unread = False
    """The peer may still be sending a body that nobody reads."""
    _handshaken = False

    def __init__(self, server: Any, sock: socket.socket, makefile: Any = _makefile) -> None:
        super().__init__(server, sock, _makefile)

    def communicate(self) -> bool:
        if isinstance(self.socket, ssl.SSLSocket) and not self._handshaken and not self._shake_hands(self.socket):
            return False
        self.rfile.renew_patience()
        return bool(super().communicate())  # type: ignore[no-untyped-call]

    def close(self) -> None:
        if self.unread:
            self._linger()
        super().close()

    def _linger(self) -> None:
        """Closing at once would reset the connection, and the peer would never see why."""
        give_up, left = time.monotonic() + _LINGER_S, _LINGER_BYTES
        try:
            self.socket.shutdown(socket.SHUT_WR)
            while left > 0 and (rest_s := give_up - time.monotonic()) > 0:
                self.socket.settimeout(rest_s)
                piece = self.socket.recv(1 << 16)
                if not piece:
                    break
                left -= len(piece)
        except OSError as error:
            log.debug("%s did not wait for the answer: %s", self.remote_addr, error)

    def _shake_hands(self, sock: ssl.SSLSocket) -> bool:
        """Whether the peer speaks TLS and shows no wrong certificate."""
        sock.settimeout(_HANDSHAKE_S)
        try:
            sock.do_handshake()
        except ssl.SSLError as error:
            log.debug("no TLS handshake with %s: %s", self.remote_addr, error)
            if error.reason == "HTTP_REQUEST":
                _answer_plainly(sock)
            return False
        except OSError as error:
            log.debug("%s went away in the handshake: %s", self.remote_addr, error)
            return False
        sock.settimeout(self.server.timeout)
        self._handshaken = True
        certificate = sock.getpeercert(binary_form=True)
        shown = {"SSL_CLIENT_CERT": ssl.DER_cert_to_PEM_cert(certificate)} if certificate else {}
        self.ssl_env = self.server.ssl_adapter.get_environ() | shown
        return True


class _Server(wsgi.Server):
    ConnectionClass = _Connection

    def __init__(
        self, address: tuple[str, int], app: Any, context: ssl.SSLContext | None, threads: int, max_streams: int
    ) -> None:
        super().__init__(
            address,
            app,
            numthreads=threads,
            server_name="fedn",
            request_queue_size=256,
            timeout=_IDLE_S,
            shutdown_timeout=_STOP_S,
        )
        self.requests = ThreadPool(self, min=threads, max=threads + max_streams, accepted_queue_size=_MAX_WAITING)
        self.gateway = _Gateway
        self.max_request_header_size = _MAX_HEADER_BYTES
        self.keep_alive_conn_limit = _KEPT_CONNECTIONS
        self.software = "fedn"
        if context is not None:
            self.ssl_adapter = _TlsAdapter(context)

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: tuple[str, int]) -> socket.socket:
        try:
            socket_.bind(bind_addr)
        except OSError:
            socket_.close()
            raise
        return socket_

    def process_conn(self, conn: Any) -> None:
        if conn.fresh:
            # Nobody is kept waiting by a peer that says nothing: a worker takes it once there is something to read.
            conn.fresh = False
            self.put_conn(conn)
        else:
            super().process_conn(conn)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """cheroot's own words; what peers do wrong is no warning of ours."""
        log.log(level if traceback else logging.DEBUG, "%s", msg, exc_info=traceback)


def _answer_plainly(sock: ssl.SSLSocket) -> None:
    """Tells a peer that does not speak TLS, in plain HTTP."""
    try:
        socket.socket.sendall(sock, _PLAIN_ANSWER)
    except OSError as error:
        log.debug("the peer did not wait for the answer: %s", error)
