"""What a worker and its stream share: what is to be sent, what has come, who is there. Between threads; no I/O.

The worker's threads call `send`, `receive` and `close_when_sent`; the loop that owns the stream calls the rest. Streams
come and go; this stays.
"""

import contextlib
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import NoReturn

import fedn
from fedn.models.digest import Buffer
from fedn.network.frames import Buffer as Message
from fedn.network.frames import decode_control
from fedn.network.generated import worker_pb2 as wire
from fedn.network.worker_chunks import Chunk, decode_chunk, encode_chunk
from fedn.protocol.errors import FednError, InvalidInput, LimitExceeded
from fedn.workers.backends.base import Arrival, Departure
from fedn.workers.backends.in_process import no_such_worker
from fedn.workers.backends.mailbox import Mailbox, finished
from fedn.workers.errors import PeerUnavailable
from fedn.workers.relay.pairs import Incoming, Outgoing, Verdict

MAX_FRAMES = 1024
MAX_BYTES = 64 << 20
"""From this worker to another, not acknowledged; a single frame may be larger."""
MAX_REASON = 4096


class Exchange:
    """See the module.

    Args:
        stall_s: see `Backend.send`.
        wake: called, from any thread, when the stream has something to write.
        drain: called, from any thread, with a sender's rank when there is room for what has come from it.
    """

    def __init__(
        self, rank: int, size: int, *, stall_s: float, wake: Callable[[], None], drain: Callable[[int], None]
    ) -> None:
        self.rank, self.size = rank, size
        self._stall_s = stall_s
        self._wake, self._ask_drain = wake, drain
        self._instance = uuid.uuid4().hex
        self._mailbox = Mailbox(rank, size)
        self._changed = threading.Condition()
        self._outgoing: dict[int, Outgoing] = {}
        self._incoming: dict[int, Incoming] = {}
        self._ready: dict[int, None] = {}
        """Receivers to whom something may be sent, the next one first."""
        self._to_acknowledge: dict[int, None] = {}
        self._control: deque[bytes] = deque()
        self._known: dict[int, wire.WorkerPeer] = {}
        self._gone: dict[int, PeerUnavailable] = {}
        self._failure: FednError | None = None
        self._over = False
        """Whether no stream will come any more."""
        self._credit = 0
        self._max_frame_bytes = 0
        self._progress = 0
        """Grows with each acknowledgement."""
        self._closing = False
        self._last_word: wire.WorkerLeave | None = None
        self.left = False
        """Whether the last word was said on this stream."""

    # By the worker

    def send(self, receiver: int, frame: Buffer) -> None:
        """See `Backend.send`."""
        if not 0 <= receiver < self.size:
            raise no_such_worker(receiver, self.size)
        if receiver == self.rank:
            self._check_open()
            self._mailbox.put(receiver, frame, self._stall_s)
            return
        with self._changed:
            self._check_open()
            if len(frame) > self._max_frame_bytes:
                raise LimitExceeded(
                    "message_too_large",
                    f"A frame has {len(frame)} bytes, and the combiner takes at most {self._max_frame_bytes}",
                    fix="Send it in parts, or raise the combiner's worker_message_bytes.",
                )
            pair = self._pair(receiver)
            self._wait(lambda: self._closing or receiver in self._gone or _has_room(pair, len(frame)), receiver)
            self._check_open()
            if receiver in self._gone:
                raise self._gone[receiver].without_frames()
            pair.put(frame)
            self._ready.setdefault(receiver)
        self._wake()

    def receive(self, timeout_s: float | None) -> Arrival | Departure | None:
        """See `Backend.receive`."""
        try:
            came = self._mailbox.take(timeout_s)
        except PeerUnavailable:
            if self._failure is not None:
                raise self._failure.without_frames() from None
            raise
        if isinstance(came, Arrival):
            incoming = self._incoming.get(came.sender)
            if incoming is not None and incoming.blocked:
                self._ask_drain(came.sender)
        return came

    def close_when_sent(self, reason: str | None) -> bool:
        """Says the last word, when all that was sent has come, or comes no nearer for `stall_s`; False: it was said."""
        with self._changed:
            if self._closing:
                return False
            self._closing = True
            self._changed.notify_all()
        self._mailbox.close()
        for sender in tuple(self._incoming):
            self._ask_drain(sender)
        with self._changed:
            with contextlib.suppress(PeerUnavailable):  # nobody takes it
                self._wait(lambda: not any(pair.pending_frames for pair in self._outgoing.values()), None)
            self._last_word = wire.WorkerLeave(failed=reason is not None, reason=(reason or "")[:MAX_REASON])
        self._wake()
        return True

    # By the stream

    @property
    def leaving(self) -> bool:
        """Whether the last word is to be said, or was."""
        return self._last_word is not None

    def say(self, message: bytes) -> None:
        """Sends a control message on this stream."""
        with self._changed:
            self._control.append(message)
        self._wake()

    def hello(self, ticket: str) -> bytes:
        """The first message of a stream."""
        with self._changed:
            for incoming in self._incoming.values():
                incoming.begin_stream()
            hello = wire.WorkerHello(
                ticket=ticket,
                instance=self._instance,
                version=fedn.__version__,
                expected=[wire.WorkerAck(peer=rank, sequence=one.expected) for rank, one in self._incoming.items()],
                known=list(self._known.values()),
            )
        return wire.WorkerFrame(hello=hello).SerializeToString()

    def begin_stream(self, welcome: wire.WorkerWelcome) -> None:
        """A home has taken this worker in."""
        acks = {ack.peer: ack for ack in welcome.acks}
        with self._changed:
            self._credit, self._max_frame_bytes = welcome.credit, welcome.max_frame_bytes
            self._to_acknowledge.clear()
            self._control.clear()
            self.left = False
            for receiver, pair in self._outgoing.items():
                ack = acks.get(receiver)
                if ack is None:
                    pair.begin_stream(welcome.credit)
                else:
                    pair.begin_stream(ack.credit, ack.sequence, ack.held)
                self._ready.setdefault(receiver)
            self._progress += 1
            self._changed.notify_all()

    def next_message(self) -> bytes | None:
        """What to write now: acknowledgements first, then one chunk of each pair in turn, at last the last word."""
        with self._changed:
            if self._control:
                return self._control.popleft()
            if self._to_acknowledge:
                sender, _ = self._to_acknowledge.popitem()
                ack = wire.WorkerAck(peer=sender, sequence=self._incoming[sender].expected)
                return wire.WorkerFrame(ack=ack).SerializeToString()
            while self._ready:
                receiver = next(iter(self._ready))
                del self._ready[receiver]
                pair = self._outgoing[receiver]
                chunk = pair.next_chunk()
                if chunk is not None:
                    self._ready[receiver] = None
                    return encode_chunk(chunk)
                wanted = pair.wants()
                if wanted is not None:
                    return wire.WorkerFrame(want=wire.WorkerWant(peer=receiver, bytes=wanted)).SerializeToString()
            if self._last_word is not None and not self.left:
                self.left = True
                return wire.WorkerFrame(leave=self._last_word).SerializeToString()
            return None

    def take(self, message: Message) -> None:
        """A frame has come. InvalidInput (`bad_frame`, `chunk_missing`): the stream is no good.

        Raises:
            FednError: what the home said goodbye with.
        """
        chunk = decode_chunk(message)
        if chunk is not None:
            self._take_chunk(chunk)
            return
        frame = decode_control(wire.WorkerFrame, message)
        match frame.WhichOneof("control"):
            case "ack":
                self._take_ack(frame.ack)
            case "peer":
                self._take_peer(frame.peer)
            case "bye":
                raise SaidBye(frame.bye.problem.code, frame.bye.problem.message, fix=frame.bye.problem.fix)
            case _:
                raise InvalidInput("bad_frame", "a combiner's message means nothing here", fix="Update the worker.")

    def drain(self, sender: int) -> None:
        """Takes what has come from `sender` as far as there is room."""
        incoming = self._incoming[sender]
        before = incoming.expected
        if self._mailbox.closed:
            incoming.discard()
        else:
            try:
                while (frame := incoming.take(lambda size: self._mailbox.has_room(sender, size))) is not None:
                    self._mailbox.put(sender, frame, None)
            except PeerUnavailable:
                incoming.discard()  # closed just now
        if incoming.expected != before:
            self._acknowledge(sender)

    def fail(self, error: FednError) -> None:
        """The connection is over: whoever waits, or speaks from now on, is told why, unless this worker has closed."""
        with self._changed:
            if not self._closing:
                self._failure = error
            self._over = True
            self._changed.notify_all()
        self._mailbox.close()

    def _take_chunk(self, chunk: Chunk) -> None:
        if chunk.receiver != self.rank or not 0 <= chunk.sender < self.size or chunk.sender == self.rank:
            raise InvalidInput("bad_frame", "a chunk came that is for another worker", fix="Update the combiner.")
        with self._changed:
            incoming = self._incoming.setdefault(chunk.sender, Incoming())
        verdict = incoming.receive(chunk)
        if verdict is Verdict.GAP:
            raise InvalidInput(
                "chunk_missing", "a chunk between two workers is missing", where={"sender": chunk.sender}
            )
        if verdict is Verdict.REPEATED:
            self._acknowledge(chunk.sender)
        self.drain(chunk.sender)

    def _take_ack(self, ack: wire.WorkerAck) -> None:
        with self._changed:
            pair = self._outgoing.get(ack.peer)
            if pair is None:
                return
            if pair.acknowledge(ack.sequence, ack.credit):
                self._progress += 1
                self._changed.notify_all()
            self._ready.setdefault(ack.peer)

    def _take_peer(self, peer: wire.WorkerPeer) -> None:
        with self._changed:
            self._known[peer.rank] = peer
            if peer.state == wire.WorkerPeer.STATE_PRESENT:
                return
            failed = peer.state == wire.WorkerPeer.STATE_FAILED
            self._gone[peer.rank] = _lost(peer.rank, peer.reason) if failed else finished(peer.rank)
            if peer.rank in self._outgoing:
                self._outgoing[peer.rank].drop()
            if peer.rank in self._incoming:
                self._incoming[peer.rank].abandon()
            self._changed.notify_all()
        self._mailbox.depart(peer.rank, peer.reason if failed else None)

    def _acknowledge(self, sender: int) -> None:
        with self._changed:
            self._to_acknowledge[sender] = None

    def _pair(self, receiver: int) -> Outgoing:
        if receiver not in self._outgoing:
            pair = self._outgoing[receiver] = Outgoing(self.rank, receiver)
            pair.begin_stream(self._credit)
        return self._outgoing[receiver]

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure.without_frames()
        if self._closing:
            raise finished(self.rank)

    def _wait(self, done: Callable[[], bool], receiver: int | None) -> None:
        """Until it is done, or this worker fails, or nothing moves for `stall_s`: then PeerUnavailable."""
        progress, deadline = self._progress, time.monotonic() + self._stall_s
        while not done() and not self._over:
            if self._progress != progress:
                progress, deadline = self._progress, time.monotonic() + self._stall_s
            left = deadline - time.monotonic()
            if left <= 0:
                self._stalled(receiver)
            self._changed.wait(left)

    def _stalled(self, receiver: int | None) -> NoReturn:
        raise PeerUnavailable(
            "peer_stalled",
            f"{'The others have' if receiver is None else f'Worker {receiver} has'} taken no message for "
            f"{self._stall_s:g} s",
            fix="See its log: it may not have started, or hang in a handler.",
            where={"worker": receiver, "sender": self.rank},
        )


class SaidBye(FednError):
    """The home ended the stream on purpose; the code is its own."""


def _has_room(pair: Outgoing, size_bytes: int) -> bool:
    if not pair.pending_frames:
        return True
    return pair.pending_frames < MAX_FRAMES and pair.pending_bytes + size_bytes <= MAX_BYTES


def _lost(rank: int, reason: str) -> PeerUnavailable:
    return PeerUnavailable("peer_lost", f"Worker {rank} is gone: {reason}", fix="See its log.", where={"worker": rank})
