"""The two ends of a pair of workers: what waits to be acknowledged, and what comes next. Pure: no I/O, no clock.

A stream delivers a beginning of what was written to it, in order, and may break at any moment; the next one begins with
what each side has. So a sender keeps each chunk until it is acknowledged, and a receiver drops what it has already.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum

from fedn.models.digest import Buffer
from fedn.network.worker_chunks import CHUNK_BYTES, Chunk


class Outgoing:
    """What one worker says to another: frames that wait, and chunks that are not acknowledged."""

    def __init__(self, sender: int, receiver: int) -> None:
        self._sender, self._receiver = sender, receiver
        self._frames: deque[memoryview] = deque()
        """What is left of each frame that is not cut yet."""
        self._sent: deque[Chunk] = deque()
        self._again: deque[Chunk] = deque()
        """Sent on an earlier stream, and to be sent on this one."""
        self._sequence = 0
        self._stream_bytes = 0
        """Data that this stream has carried."""
        self._flying_bytes = 0
        """Of `_sent`."""
        self._credit = 0
        self._wanted = 0
        self.pending_bytes = 0
        """Not acknowledged."""
        self.pending_frames = 0
        """Not acknowledged to their last chunk."""

    def put(self, frame: Buffer) -> None:
        """Adds a frame; nothing of it is copied before it is sent."""
        view = memoryview(frame).cast("B") if len(frame) else memoryview(b"")
        self._frames.append(view)
        self.pending_bytes += len(view)
        self.pending_frames += 1

    def begin_stream(self, credit: int, acknowledged: int = 0, held: int = 0) -> None:
        """A new stream: all that is not acknowledged is sent again, but for what is held on the way.

        Args:
            credit: bytes that it may carry before more is granted.
            acknowledged, held: the receiver, or the combiner, has all chunks before this one.
        """
        self._stream_bytes = self._wanted = 0
        self._credit = credit
        self._again.extendleft(reversed(self._sent))
        self._sent.clear()
        self._flying_bytes = 0
        self.acknowledge(acknowledged, credit)
        while self._again and self._again[0].sequence < held:
            self._fly(self._again.popleft())

    def next_chunk(self) -> Chunk | None:
        """What to send now; None where nothing waits, or what waits has no credit."""
        size = self._next_size()
        if size is None or self._stream_bytes + size > self._credit:
            return None
        self._stream_bytes += size
        chunk = self._again.popleft() if self._again else self._cut(size)
        self._fly(chunk)
        return chunk

    def wants(self) -> int | None:
        """Bytes of this stream to ask credit for, once for each sum; None where nothing new waits for credit."""
        size = self._next_size()
        if size is None or self._stream_bytes + size <= self._credit:
            return None
        total = self._stream_bytes + self.pending_bytes - self._flying_bytes
        if total <= self._wanted:
            return None
        self._wanted = total
        return total

    def acknowledge(self, sequence: int, credit: int) -> bool:
        """All chunks before this one have come; whether that is news."""
        self._credit = max(self._credit, credit)
        before = self.pending_frames, self.pending_bytes
        while self._sent and self._sent[0].sequence < sequence:
            chunk = self._sent.popleft()
            self._flying_bytes -= len(chunk.data)
            self._arrived(chunk)
        while self._again and self._again[0].sequence < sequence:
            self._arrived(self._again.popleft())
        return (self.pending_frames, self.pending_bytes) != before

    def drop(self) -> None:
        """Nobody will ever take what waits."""
        for waiting in (self._frames, self._sent, self._again):
            waiting.clear()
        self.pending_bytes = self.pending_frames = self._flying_bytes = 0

    def _fly(self, chunk: Chunk) -> None:
        self._sent.append(chunk)
        self._flying_bytes += len(chunk.data)

    def _arrived(self, chunk: Chunk) -> None:
        self.pending_bytes -= len(chunk.data)
        self.pending_frames -= chunk.is_last

    def _next_size(self) -> int | None:
        if self._again:
            return len(self._again[0].data)
        return min(len(self._frames[0]), CHUNK_BYTES) if self._frames else None

    def _cut(self, size: int) -> Chunk:
        frame = self._frames[0]
        chunk = Chunk(self._sender, self._receiver, self._sequence, len(frame), frame[:size])
        self._sequence += 1
        if size == len(frame):
            self._frames.popleft()
        else:
            self._frames[0] = frame[size:]
        return chunk


class Verdict(Enum):
    """What a chunk that comes is."""

    NEXT = "next"
    REPEATED = "repeated"
    """It is there already."""
    GAP = "gap"
    """One before it is missing: the stream is no good."""


class Incoming:
    """What comes from one worker: chunks in order, and the frames that they make up."""

    def __init__(self) -> None:
        self._waiting: deque[Chunk] = deque()
        """Come, and without room yet."""
        self._frame: bytearray | None = None
        """Under way."""
        self._filled = 0
        self._received = 0
        self.expected = 0
        """All chunks before it were taken: that is what is acknowledged."""

    def begin_stream(self) -> None:
        """A new stream: what has come without being taken comes again."""
        self._waiting.clear()
        self._received = self.expected

    def receive(self, chunk: Chunk) -> Verdict:
        """Keeps a chunk for `take` if it is the next one."""
        if chunk.sequence != self._received:
            return Verdict.REPEATED if chunk.sequence < self._received else Verdict.GAP
        self._received += 1
        self._waiting.append(chunk)
        return Verdict.NEXT

    def take(self, has_room: Callable[[int], bool]) -> bytearray | None:
        """The next whole frame; None where more of it must come, or where there is no room.

        Args:
            has_room: whether a frame of so many bytes may be taken. Asked before its first chunk is.
        """
        while self._waiting:
            chunk = self._waiting[0]
            if self._frame is None:
                if not has_room(chunk.left):
                    return None
                self._frame, self._filled = bytearray(chunk.left), 0
            self._waiting.popleft()
            self.expected += 1
            end = self._filled + len(chunk.data)
            self._frame[self._filled : end] = chunk.data
            self._filled = end
            if chunk.is_last:
                frame, self._frame = self._frame, None
                return frame
        return None

    @property
    def blocked(self) -> bool:
        """Whether something waits for room."""
        return bool(self._waiting)

    def abandon(self) -> None:
        """The rest of a frame under way will never come."""
        self._frame = None

    def discard(self) -> None:
        """Takes all that has come, and keeps nothing: nobody listens any more."""
        self.expected += len(self._waiting)
        self._waiting.clear()
        self._frame = None
