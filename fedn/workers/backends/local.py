"""Workers as processes of one machine, each pair joined by a socket that no other process can reach.

The launcher makes a socket pair (Unix domain) for every two workers and hands each its ends: there is no port, no
name, no server, and nothing to authenticate. A process that dies closes its ends, so that all others know.

A frame on such a socket: its kind (1 byte: frame, or the last word: finished, failed), its length (8 bytes little
endian), its content.
"""

import contextlib
import resource
import select
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from fedn.models.digest import Buffer
from fedn.protocol.errors import InvalidInput, LimitExceeded
from fedn.workers.backends.base import DEFAULT_STALL_S, Arrival, Backend, Departure, WorkerStart
from fedn.workers.backends.in_process import no_such_worker
from fedn.workers.backends.mailbox import Mailbox, finished, stalled
from fedn.workers.errors import PeerUnavailable

RANK = "FEDN_WORKER_RANK"
SIZE = "FEDN_WORKER_SIZE"
SOCKETS = "FEDN_WORKER_SOCKETS"

MAX_FRAME_BYTES = 2**32
MAX_REASON_BYTES = 4096
_HEAD = struct.Struct("<BQ")
_FRAME, _FINISHED, _FAILED = 0, 1, 2
_SPARE_FILES = 64
"""Files that a launcher has open besides the sockets."""


class Local(Backend):
    """Processes of one machine, joined by Unix sockets: no port and no server.

    Args:
        peers: rank to the socket of that worker; the back end closes them.
    """

    def __init__(
        self, rank: int, size: int, peers: Mapping[int, socket.socket], *, stall_s: float = DEFAULT_STALL_S
    ) -> None:
        self.rank, self.size = rank, size
        self._stall_s = stall_s
        self._mailbox = Mailbox(rank, size)
        self._sockets = dict(peers)
        self._locks = {peer: threading.Lock() for peer in peers}
        self._gone: dict[int, PeerUnavailable] = {}
        self._readers = [
            threading.Thread(target=self._read, args=(peer,), name=f"from-worker-{peer}", daemon=True) for peer in peers
        ]
        for reader in self._readers:
            reader.start()

    @classmethod
    def attach(cls, environment: Mapping[str, str]) -> Self:
        try:
            rank, size = int(environment[RANK]), int(environment[SIZE])
            given = [entry.split(":") for entry in environment[SOCKETS].split(",") if entry]
            peers = {int(peer): socket.socket(fileno=int(number)) for peer, number in given}
        except (KeyError, ValueError, OSError) as error:
            raise InvalidInput(
                "no_worker_backend",
                f"This process is not attached as a worker: {type(error).__name__} {error}",
                fix="Start it with the environment and the open files that Local.start gives.",
            ) from error
        for end in peers.values():
            end.set_inheritable(False)
        return cls(rank, size, peers)

    @classmethod
    @contextlib.contextmanager
    def start(cls, size: int) -> Iterator[Sequence[WorkerStart]]:
        with contextlib.ExitStack() as opened:
            _allow_files(size * (size - 1) + _SPARE_FILES)
            ends: list[dict[int, socket.socket]] = [{} for _ in range(size)]
            for low in range(size):
                for high in range(low + 1, size):
                    ends[low][high], ends[high][low] = map(opened.enter_context, socket.socketpair())
            yield [
                WorkerStart(
                    {
                        RANK: str(rank),
                        SIZE: str(size),
                        SOCKETS: ",".join(f"{peer}:{end.fileno()}" for peer, end in mine.items()),
                    },
                    [end.fileno() for end in mine.values()],
                )
                for rank, mine in enumerate(ends)
            ]

    def send(self, receiver: int, frame: Buffer) -> None:
        if not 0 <= receiver < self.size:
            raise no_such_worker(receiver, self.size)
        if self._mailbox.closed:
            raise finished(self.rank)
        if len(frame) > MAX_FRAME_BYTES:
            raise LimitExceeded(
                "message_too_large", f"A frame has {len(frame)} bytes, at most {MAX_FRAME_BYTES} may be"
            )
        if receiver == self.rank:
            self._mailbox.put(receiver, frame, self._stall_s)
        else:
            self._write(receiver, _FRAME, frame)

    def receive(self, timeout_s: float | None) -> Arrival | Departure | None:
        return self._mailbox.take(timeout_s)

    def close(self, reason: str | None = None) -> None:
        if not self._mailbox.close():
            return
        kind = _FINISHED if reason is None else _FAILED
        last_word = (reason or "").encode("utf-8", "replace")[:MAX_REASON_BYTES]
        for peer, connection in self._sockets.items():
            with contextlib.suppress(PeerUnavailable):
                self._write(peer, kind, last_word)
            # What was sent stays in the peer's socket; our reader wakes and ends.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for reader in self._readers:
            reader.join()
        for connection in self._sockets.values():
            connection.close()

    def _write(self, peer: int, kind: int, content: Buffer) -> None:
        """Writes all of it; a peer that takes nothing for `stall_s` is given up, as half a frame cannot be mended."""
        with self._locks[peer]:
            if peer in self._gone:
                raise self._gone[peer].without_frames()
            try:
                for piece in (_HEAD.pack(kind, len(content)), content):
                    self._write_piece(peer, memoryview(piece))
            except PeerUnavailable as error:
                self._gone[peer] = error
                with contextlib.suppress(OSError):
                    self._sockets[peer].shutdown(socket.SHUT_WR)
                raise
            except OSError as error:
                self._gone[peer] = _broken(peer)
                raise self._gone[peer] from error

    def _write_piece(self, peer: int, left: memoryview) -> None:
        connection = self._sockets[peer]
        waiting = select.poll()
        waiting.register(connection, select.POLLOUT)
        while left:
            try:
                left = left[connection.send(left, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                if not waiting.poll(self._stall_s * 1000):
                    raise stalled(peer, self.rank, self._stall_s) from None

    def _read(self, peer: int) -> None:
        """Until the peer's last word, or its end without one; a full mailbox stops it, and so the sender."""
        reason: str | None = "it ended without a word: killed, or crashed"
        try:
            while True:
                kind, length = _HEAD.unpack(self._exactly(peer, _HEAD.size))
                if kind not in {_FRAME, _FINISHED, _FAILED}:
                    reason = "it sent what is no frame"
                    break
                if length > (MAX_FRAME_BYTES if kind == _FRAME else MAX_REASON_BYTES):
                    reason = f"it announced a frame of {length} bytes"
                    break
                content = self._exactly(peer, length)
                if kind == _FRAME:
                    self._mailbox.put(peer, content, None)
                    continue
                reason = None if kind == _FINISHED else content.decode("utf-8", "replace")
                break
        except (EOFError, OSError, PeerUnavailable):
            # Its end, or ours: then nobody listens to the departure either.
            pass
        self._mailbox.depart(peer, reason)
        self._gone.setdefault(peer, finished(peer) if reason is None else _broken(peer))

    def _exactly(self, peer: int, length: int) -> bytearray:
        content = bytearray(length)
        left = memoryview(content)
        while left:
            count = self._sockets[peer].recv_into(left)
            if not count:
                raise EOFError
            left = left[count:]
        return content


def _broken(peer: int) -> PeerUnavailable:
    return PeerUnavailable("peer_lost", f"Worker {peer} is gone", fix="See its log.", where={"worker": peer})


def _allow_files(count: int) -> None:
    """Raises this process' own limit of open files where that is needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or count <= soft:
        return
    if hard != resource.RLIM_INFINITY and count > hard:
        raise LimitExceeded(
            "too_many_workers", f"{count} open files are needed and {hard} allowed", fix="Start fewer workers."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
