"""How much of the objects is on its way to clients at one moment, over all streams of a combiner.

gRPC copies a message before it waits for the peer to take it. Without a bound, a model that is due at ten thousand
clients at once would lie in memory ten thousand times, in memory that was never touched before, which costs more than
the sending. A message that stays on its way for long goes to a slow peer: others no longer wait for it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Pass:
    """The right to send one message."""

    size_bytes: int
    on_grant: Callable[[], None]
    granted_at: float | None = None
    """Loop time in seconds; None while it waits."""

    @property
    def granted(self) -> bool:
        return self.granted_at is not None


class SendGate:
    """See the module. Belongs to one loop.

    Args:
        max_bytes: on their way to peers that take them; a larger message goes alone.
        slow_after_s: seconds after which a message that is still on its way does not count any more.
    """

    def __init__(self, max_bytes: int, slow_after_s: float) -> None:
        self._max_bytes = self._free_bytes = max_bytes
        self._slow_after_s = slow_after_s
        self._waiting: deque[Pass] = deque()
        self._under_way: dict[Pass, None] = {}
        """In the order of their grants."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return len(self._waiting)

    def request(self, size_bytes: int, on_grant: Callable[[], None]) -> Pass:
        """A place for a message. `on_grant` is called where it is granted later than at once."""
        wanted = Pass(min(size_bytes, self._max_bytes), on_grant)
        if self._waiting or wanted.size_bytes > self._free_bytes:
            self._waiting.append(wanted)
            self._watch()
        else:
            self._grant(wanted)
        return wanted

    def leave(self, given: Pass) -> None:
        """The message has left, or will not be sent."""
        if given in self._under_way:
            del self._under_way[given]
            self._free_bytes += given.size_bytes
            self._advance()
        elif not given.granted:
            self._waiting.remove(given)
            self._advance()

    def _grant(self, wanted: Pass) -> None:
        self._free_bytes -= wanted.size_bytes
        wanted.granted_at = asyncio.get_running_loop().time()
        self._under_way[wanted] = None

    def _advance(self) -> None:
        while self._waiting and self._waiting[0].size_bytes <= self._free_bytes:
            wanted = self._waiting.popleft()
            self._grant(wanted)
            wanted.on_grant()

    def _watch(self) -> None:
        """While somebody waits, the message that is on its way for the longest time is watched."""
        if self._timer is None and self._waiting:
            oldest = next(iter(self._under_way))
            assert oldest.granted_at is not None  # it is under way
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(oldest.granted_at + self._slow_after_s, self._pass_over)

    def _pass_over(self) -> None:
        self._timer = None
        due = asyncio.get_running_loop().time() - self._slow_after_s
        for given in [given for given in self._under_way if given.granted_at is not None and given.granted_at <= due]:
            del self._under_way[given]
            self._free_bytes += given.size_bytes
        self._advance()
        self._watch()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
