"""What has come for one worker and is not yet taken: in order of arrival, bounded for each sender."""

import threading
import time
from collections import deque

from fedn.models.digest import Buffer
from fedn.workers.backends.base import Arrival, Departure
from fedn.workers.errors import PeerUnavailable

MAX_FRAMES = 64
MAX_BYTES = 64 * 2**20
"""Of one sender, waiting; a single frame may be larger."""


class Mailbox:
    """Any thread may put; one takes.

    Args:
        owner: rank of the worker whose mailbox it is.
        size: number of workers.
    """

    def __init__(self, owner: int, size: int, *, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES) -> None:
        self._owner = owner
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._changed = threading.Condition()
        self._waiting: deque[Arrival | Departure] = deque()
        self._frames = [0] * size
        self._bytes = [0] * size
        self._departed: set[int] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, sender: int, frame: Buffer, stall_s: float | None) -> None:
        """Adds a frame, when there is room for this sender's.

        Args:
            stall_s: seconds to wait for room while nothing is taken at all; None: as long as it takes.

        Raises:
            PeerUnavailable: the mailbox is closed, or stays full.
        """
        with self._changed:
            deadline = None if stall_s is None else time.monotonic() + stall_s
            while not self._closed and not self._has_room(sender, len(frame)):
                if sender == self._owner:
                    raise PeerUnavailable(
                        "peer_stalled", "A worker's messages to itself are full", fix="Take them before sending more."
                    )
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise stalled(self._owner, sender, stall_s or 0.0)
                before = sum(self._frames)
                self._changed.wait(left)
                if stall_s is not None and sum(self._frames) < before:
                    deadline = time.monotonic() + stall_s
            if self._closed:
                raise finished(self._owner)
            self._waiting.append(Arrival(sender, frame))
            self._frames[sender] += 1
            self._bytes[sender] += len(frame)
            self._changed.notify_all()

    def has_room(self, sender: int, size_bytes: int) -> bool:
        """Whether a frame of this sender would be put without waiting; also where the mailbox is closed."""
        with self._changed:
            return self._closed or self._has_room(sender, size_bytes)

    def depart(self, rank: int, reason: str | None) -> None:
        """Notes, once, that a worker is gone."""
        with self._changed:
            if rank not in self._departed:
                self._departed.add(rank)
                self._waiting.append(Departure(rank, reason))
                self._changed.notify_all()

    def take(self, timeout_s: float | None) -> Arrival | Departure | None:
        """The next thing that came; None after `timeout_s` seconds.

        Raises:
            PeerUnavailable: (`worker_finished`) closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            if self._closed:
                raise finished(self._owner)
            if not self._waiting:
                return None
            taken = self._waiting.popleft()
            if isinstance(taken, Arrival):
                self._frames[taken.sender] -= 1
                self._bytes[taken.sender] -= len(taken.frame)
                self._changed.notify_all()
            return taken

    def close(self) -> bool:
        """Drops what waits and wakes everybody who does; whether it was open."""
        with self._changed:
            was_open, self._closed = not self._closed, True
            self._waiting.clear()
            self._changed.notify_all()
            return was_open

    def _has_room(self, sender: int, size_bytes: int) -> bool:
        waiting = self._frames[sender]
        return not waiting or (waiting < self._max_frames and self._bytes[sender] + size_bytes <= self._max_bytes)


def stalled(rank: int, sender: int, stall_s: float) -> PeerUnavailable:
    """The error for who sends to a worker that takes nothing."""
    return PeerUnavailable(
        "peer_stalled",
        f"Worker {rank} has taken no message for {stall_s:g} s",
        fix="See its log: it may hang in a handler.",
        where={"worker": rank, "sender": sender},
    )


def finished(rank: int) -> PeerUnavailable:
    """The error for who speaks to a worker that has ended, or through one's own ended connection."""
    return PeerUnavailable(
        "worker_finished",
        f"Worker {rank} has ended and takes no messages",
        fix="Let workers agree on their last round before they finish.",
        where={"worker": rank},
    )
