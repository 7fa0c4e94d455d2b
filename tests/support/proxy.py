"""A TCP proxy that can be told to break connections, to see what a peer does when the network fails."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psutil


class BreakingProxy:
    """Forwards 127.0.0.1:`port` to a port of a real server, and breaks the connection in time.

    Args:
        target_port: the server's port on 127.0.0.1.
        break_after_bytes: how much a connection brings from the server before it is cut.
        times: how many connections are cut; later ones live.
        port: to listen at; 0: any free one.
    """

    def __init__(self, target_port: int, break_after_bytes: int, times: int, port: int = 0) -> None:
        self._target_port, self._break_after_bytes = target_port, break_after_bytes
        self._lock = threading.Lock()
        self._left = times
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]

    @property
    def breaks_left(self) -> int:
        return self._left

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for end in self._open:
                _shut(end)
        for thread in self._threads:
            thread.join(30)
        self._listener.close()

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target_port))
            with self._lock:
                self._open |= {near, far}
            self._spawn(self._forward, near, far)

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        upward = threading.Thread(target=_pump, args=(near, far), daemon=True)
        upward.start()
        brought = 0
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                brought += len(data)
                with self._lock:
                    cut = brought > self._break_after_bytes and self._left > 0
                    self._left -= cut
                if cut:
                    break
                near.sendall(data)
        _shut(near)
        _shut(far)
        upward.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _shut(target)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class ProcessProxy:
    """Forwards 127.0.0.1:`port` to `target_port`, and can cut off one process while all others go on.

    Who connects is found by the connection's own port, in the list of the machine's connections.
    """

    def __init__(self) -> None:
        self.target_port = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._cut: set[int] = set()
        self._connections: dict[socket.socket, tuple[int, socket.socket]] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for near, (_, far) in self._connections.items():
                _shut(near)
                _shut(far)
        for thread in self._threads:
            thread.join(30)
        self._listener.close()

    def cut(self, process: int) -> None:
        """Breaks this process's connections, and those that it opens, until `heal`."""
        with self._lock:
            self._cut.add(process)
            for near, (peer, far) in self._connections.items():
                if _owner(peer) == process:
                    _shut(near)
                    _shut(far)

    def heal(self, process: int) -> None:
        with self._lock:
            self._cut.discard(process)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, (_, peer) = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._cut and _owner(peer) in self._cut:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.target_port))
                except OSError:
                    near.close()
                    continue
                self._connections[near] = (peer, far)
            self._spawn(self._forward, near, far)

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        upward = threading.Thread(target=_pump, args=(near, far), daemon=True)
        upward.start()
        _pump(far, near)
        _shut(near)
        _shut(far)
        upward.join()
        with self._lock:
            del self._connections[near]
        near.close()
        far.close()


def _owner(port: int) -> int | None:
    """The process whose end of a connection has this port. gRPC uses sockets of both families at once."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            return int(connection.pid)
    return None
