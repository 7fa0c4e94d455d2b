"""One direction between two workers at their home: what is spooled for the receiver, and how much more may come.

Credit is counted in bytes from the beginning of the sender's stream and only grows. Every pair may have `BASE_BYTES`
on its way, so that none ever waits for another; beyond that, what is spooled or promised comes out of the group's pool,
and only where the sender asked for it.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from fedn.network.worker_chunks import CHUNK_BYTES, Chunk
from fedn.protocol.errors import InvalidInput

BASE_BYTES = CHUNK_BYTES
"""Credit of every pair."""


class Spooled(NamedTuple):
    """A chunk that is not acknowledged."""

    sequence: int
    message: bytes
    """As it came, and as it goes out."""
    data_bytes: int
    is_last: bool
    """Of its message."""


class Pool:
    """Bytes that the pairs of a group may spool beyond their base, in all."""

    def __init__(self, limit_bytes: int) -> None:
        self.free_bytes = limit_bytes
        self._hungry: dict[Pair, None] = {}

    def hungry(self, pair: "Pair") -> None:
        """The pair wants more than there is."""
        self._hungry.setdefault(pair)

    def content(self, pair: "Pair") -> None:
        """It wants nothing more."""
        self._hungry.pop(pair, None)

    def waiting(self) -> Iterator["Pair"]:
        """Pairs that may be given more now, those first that have waited longest."""
        for pair in tuple(self._hungry):
            if self.free_bytes <= 0:
                return
            yield pair


class Pair:
    """See the module.

    Args:
        sender, receiver: ranks.
        pool: of the group.
        max_bytes: spooled and promised for this pair, its base among them.
    """

    def __init__(self, sender: int, receiver: int, pool: Pool, max_bytes: int) -> None:
        self.sender, self.receiver = sender, receiver
        self._pool = pool
        self._max_bytes = max(max_bytes, BASE_BYTES)
        self._queue: deque[Spooled] = deque()
        self._next: int | None = None
        """Sequence that comes next; None: the sender begins where it has to."""
        self.acknowledged = 0
        """The receiver has all chunks before this one."""
        self._handed = 0
        """All chunks before this one have been on a stream to the receiver."""
        self.held_bytes = 0
        """Spooled."""
        self._received = 0
        self._wanted = 0
        self.credit = BASE_BYTES
        self._reserved = 0
        """Of the pool."""
        self.farewell = False
        """Whether the receiver is to be told, when all is acknowledged, that the sender is gone."""

    @property
    def held(self) -> int:
        """The home has all chunks before this one."""
        return self.acknowledged if self._next is None else self._next

    @property
    def is_spooling(self) -> bool:
        """Whether something is not acknowledged."""
        return bool(self._queue)

    def __iter__(self) -> Iterator[Spooled]:
        return iter(self._queue)

    def begin_stream(self) -> None:
        """The sender attaches: its stream is counted anew."""
        self._received = self._wanted = self.credit = 0
        self._promise()

    def add(self, chunk: Chunk, message: bytes) -> Spooled | None:
        """Takes a chunk in; None where it is there, or was acknowledged, already.

        Raises:
            InvalidInput: `credit_exceeded`; `chunk_missing` (one before it never came).
        """
        size = len(chunk.data)
        self._received += size
        if self._received > self.credit:
            raise self._refused("credit_exceeded", "a worker sends more than it has credit for")
        if chunk.sequence < self.held:
            self._promise()
            return None
        if self._next is not None and chunk.sequence > self._next:
            raise self._refused("chunk_missing", "a chunk between two workers is missing")
        self._next = chunk.sequence + 1
        spooled = Spooled(chunk.sequence, message, size, chunk.is_last)
        self._queue.append(spooled)
        self.held_bytes += size
        return spooled

    def hand(self, spooled: Spooled) -> bool:
        """A chunk goes on a stream to the receiver; whether it has been on an earlier one."""
        again = spooled.sequence < self._handed
        self._handed = max(self._handed, spooled.sequence + 1)
        return again

    def acknowledge(self, sequence: int) -> list[Spooled] | None:
        """The receiver has all chunks before this one: those that were kept for it. None where that is no news."""
        if sequence <= self.acknowledged:
            return None
        self.acknowledged = sequence
        if self._next is not None:
            self._next = max(self._next, sequence)
        taken = []
        while self._queue and self._queue[0].sequence < sequence:
            taken.append(self._queue.popleft())
        self.held_bytes -= sum(spooled.data_bytes for spooled in taken)
        self._promise()
        return taken

    def want(self, stream_bytes: int) -> bool:
        """The sender waits with so much; whether it gets more credit now."""
        self._wanted = max(self._wanted, stream_bytes)
        return self.promise_more()

    def promise_more(self) -> bool:
        """Gives more credit if there is any for it; whether there is."""
        before = self.credit
        self._promise()
        return self.credit > before

    def drop(self) -> None:
        """The receiver is gone: nothing is kept for it."""
        self._queue.clear()
        self.held_bytes = self._wanted = 0
        self._received = self.credit
        self._promise()
        self._pool.content(self)

    def _promise(self) -> None:
        """The credit that the base, the pool and what the sender wants allow."""
        available = self._pool.free_bytes + self._reserved
        base = self._received + BASE_BYTES - self.held_bytes
        most = min(base + available, self._received + self._max_bytes - self.held_bytes)
        self.credit = max(self.credit, base, min(self._wanted, most))
        reserved = max(0, self.credit - self._received + self.held_bytes - BASE_BYTES)
        self._pool.free_bytes += self._reserved - reserved
        self._reserved = reserved
        if self._wanted > self.credit:
            self._pool.hungry(self)
        else:
            self._pool.content(self)

    def _refused(self, code: str, what: str) -> InvalidInput:
        return InvalidInput(
            code,
            what,
            fix="It connects again by itself; update it if that does not help.",
            where={"sender": self.sender, "receiver": self.receiver},
        )
