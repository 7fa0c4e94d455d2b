"""What waits to be written to one stream.

Two lanes: control messages go first, so that an acknowledgement overtakes a model under way; objects and the tasks
that need them keep their order. An object is held as an iterator over messages that all streams share, so a waiting
model costs a stream nothing. The lanes are bounded: a peer that does not read is cut off, not buffered. Small messages
that wait at the same time leave as one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

from fedn.combiner.sending import Pass, SendGate
from fedn.combiner.timers import ProgressWatch
from fedn.network.bundles import Bundler
from fedn.protocol.errors import Unavailable

_COMPANY_S = 0.02


class Outbox:
    """Belongs to one stream and one loop. `run` writes; the other methods only put and never wait.

    Args:
        stall_s: seconds that one message may take to leave before the peer counts as hung.
        max_bytes: control messages that may wait.
        gate: lets the pieces of objects through; None: they go at once.
        bundles: whether the peer reads several frames in one message.
        company_s: seconds that a message which nobody waits for may wait for others to leave with.
    """

    def __init__(
        self,
        *,
        stall_s: float,
        max_bytes: int,
        gate: SendGate | None = None,
        bundles: bool = False,
        company_s: float = _COMPANY_S,
    ) -> None:
        self._control: deque[bytes] = deque()
        self._ordered: deque[bytes | Iterator[bytes]] = deque()
        self._pieces: deque[bytes] = deque()
        """The next ones of the object in front, which wait for the gate: its ObjectBegin goes with its first piece."""
        self._begun: Iterator[bytes] | None = None
        """The object in front, once its ObjectBegin was taken."""
        self._gate = gate
        self._pass: Pass | None = None
        """For `_pieces`."""
        self._used: list[Pass] = []
        """Of the pieces that are being written."""
        self._waiting_bytes = 0
        self._max_bytes = max_bytes
        self._wake = asyncio.Event()
        self._ended = False
        self._failure: Unavailable | None = None
        self._watch = ProgressWatch(stall_s, self._stalled)
        self._runner: asyncio.Task[None] | None = None
        self._bundler = Bundler()
        self._bundler.enabled = bundles
        self._company_s = company_s
        self._company: asyncio.TimerHandle | None = None
        self.sent_bytes = 0

    def put(self, message: bytes) -> None:
        """A control message that may overtake objects."""
        if self._admit(message):
            self._control.append(message)
            self._wake.set()

    def put_lazily(self, message: bytes) -> None:
        """A control message that nobody waits for: it leaves with the next one, or a moment later."""
        if not self._bundler.enabled:
            self.put(message)
        elif self._admit(message):
            self._control.append(message)
            if self._company is None:
                self._company = asyncio.get_running_loop().call_later(self._company_s, self._wake.set)

    def put_in_order(self, message: bytes) -> None:
        """A control message that must come after the objects that were put before it."""
        if self._admit(message):
            self._ordered.append(message)
            self._wake.set()

    def put_object(self, messages: Iterator[bytes]) -> None:
        """An object: its ObjectBegin and its pieces."""
        if not self._ended:
            self._ordered.append(messages)
            self._wake.set()

    def end(self, last: bytes | None = None) -> None:
        """Drops what waits; `run` returns after `last` was written."""
        if self._ended:
            return
        self._control.clear()
        self._ordered.clear()
        self._pieces.clear()
        self._waiting_bytes = 0
        if last is not None:
            self._control.append(last)
        self._ended = True
        self._wake.set()

    def _admit(self, message: bytes) -> bool:
        if self._ended:
            return False
        self._waiting_bytes += len(message)
        if self._waiting_bytes > self._max_bytes:
            self._fail("does not read what it is sent")
            return False
        return True

    def _fail(self, how: str) -> None:
        self._failure = Unavailable(
            "peer_too_slow", f"the peer {how}", fix="It connects again by itself; look at its load and its network."
        )
        self.end()

    def _stalled(self) -> None:
        self._fail("took no byte for too long")
        if self._runner is not None:
            self._runner.cancel()

    def _stop_waiting_for_company(self) -> None:
        if self._company is not None:
            self._company.cancel()
            self._company = None

    def _next(self) -> bytes | None:
        if self._control:
            message = self._control.popleft()
            self._waiting_bytes -= len(message)
            return message
        while self._ordered:
            head = self._ordered[0]
            if isinstance(head, bytes):
                self._ordered.popleft()
                self._waiting_bytes -= len(head)
                return head
            if not self._pieces:
                self._pieces.extend(islice(head, 1 if head is self._begun else 2))
                self._begun = head
            if not self._pieces:
                self._ordered.popleft()
                self._begun = None
                continue
            if not self._may_pass():
                return None
            piece = self._pieces.popleft()
            if not self._pieces and self._pass is not None:
                self._used.append(self._pass)
                self._pass = None
            return piece
        return None

    def _may_pass(self) -> bool:
        """Whether the gate is open. While it is not, control messages go on; it wakes us when it opens."""
        if self._gate is None:
            return True
        if self._pass is None:
            self._pass = self._gate.request(sum(map(len, self._pieces)), self._wake.set)
        return self._pass.granted

    def _written(self) -> None:
        """What was being written has left."""
        if self._gate is not None:
            for given in self._used:
                self._gate.leave(given)
        self._used.clear()

    def _leave_gate(self) -> None:
        self._written()
        if self._gate is not None and self._pass is not None:
            self._gate.leave(self._pass)
        self._pass = None

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Writes until `end`; to be run as a task of its own. Unavailable (`peer_too_slow`) where nobody reads."""
        self._runner = asyncio.current_task()
        try:
            await self._write_all(write)
        except asyncio.CancelledError:
            if self._failure is None:
                raise
        finally:
            self._watch.cancel()
            self._stop_waiting_for_company()
            self._leave_gate()
        if self._failure is not None:
            raise self._failure

    async def _write_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        while True:
            message = self._bundler.take(self._next)
            if message is None:
                if self._ended:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            self._stop_waiting_for_company()
            self._watch.touch()
            await write(message)
            self._watch.rest()
            self._written()
            self.sent_bytes += len(message)
