"""Who may upload now: a queue that bounds the uploads under way and the memory that they take.

gRPC buffers every stream that is merely not read, so only a grant bounds memory. Large uploads at once gain nothing,
so each size class has a number of slots; memory is a credit that an update takes with its grant and gives back when
it is in the sum. An upload that is under way for long (a slow link) leaves its slot to another and keeps its memory;
one to a file then takes credit for its stream's buffers, of which forty would be more than the model.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from fedn.combiner.buffers import MemoryStorage, Spool, Storage
from fedn.combiner.options import MIB
from fedn.protocol.errors import FednError

_SLOTS = ((8 * MIB, 2), (MIB, 4), (0, 64))
"""(smallest size, uploads at once) of each size class, as measured best."""

_AHEAD_BYTES = MIB
"""Uploads up to that size may be granted with their task: one turn less each, and small rounds are made of turns."""

_STREAM_BYTES = 20 * MIB
"""What gRPC holds of an upload to a file while it is under way, as measured on fast links."""
_STREAMS_PART = 4
"""All uploads to files that have left their slots may hold this part of the memory: a fourth of it."""

_EXPECTED_BYTES_PER_S = 200e6
"""An upload slower than that is one over a slow link."""


@dataclass(eq=False)
class Ticket:
    """One upload's place in the queue. `storage`: what it has already, where it goes on after a break."""

    size_bytes: int
    on_grant: Callable[[Storage], None]
    on_failure: Callable[[FednError], None]
    storage: Storage | None = None
    number: int = -1
    wants_file: bool = False
    slow: asyncio.TimerHandle | None = None
    under_way_bytes: int = 0
    """Credit for its stream, of an upload to a file that has left its slot."""


@dataclass
class _SizeClass:
    min_bytes: int
    free_slots: int
    waiting: OrderedDict[Ticket, None] = field(default_factory=OrderedDict)
    """In the order of their requests. Thousands may wait, and each leaves: a list would be searched each time."""

    @property
    def first(self) -> Ticket:
        """Who has waited longest; somebody must."""
        return next(iter(self.waiting))


@dataclass(frozen=True)
class AdmissionStatistics:
    """What the queue looks like at one moment."""

    waiting: int
    under_way: int
    free_bytes: int


class Admission:
    """Belongs to one loop.

    Args:
        memory_bytes: the credit. An update larger than all of it goes to a spool file, and so does one that waits
            for credit longer than its transfer would take.
        slow_after_s: seconds, on top of the expected time for its size, after which an upload counts as slow.
    """

    def __init__(self, memory_bytes: int, spool: Spool, slow_after_s: float) -> None:
        self._total_bytes = self._free_bytes = memory_bytes
        self._streams_bytes = 0
        """Of that, for streams of uploads to files that have left their slots."""
        self._spool = spool
        self._slow_after_s = slow_after_s
        self._classes = tuple(_SizeClass(size, slots) for size, slots in _SLOTS)
        self._holders: dict[Ticket, _SizeClass] = {}
        self._making: set[asyncio.Task[None]] = set()
        self._patience: asyncio.TimerHandle | None = None
        self._count = 0

    @property
    def statistics(self) -> AdmissionStatistics:
        waiting = sum(len(size_class.waiting) for size_class in self._classes)
        return AdmissionStatistics(waiting, len(self._holders), self._free_bytes)

    def request(self, ticket: Ticket) -> None:
        """Puts an upload into the queue; `on_grant` may come at once."""
        ticket.number = self._count
        self._count += 1
        self._class_of(ticket).waiting[ticket] = None
        self._advance()

    def grant_ahead(self, size_bytes: int) -> Storage | None:
        """Room for a small upload that has yet to be announced; None where it must ask for a grant.

        Half of the memory stays for those who ask.
        """
        if size_bytes > _AHEAD_BYTES or self._free_bytes - size_bytes < self._total_bytes // 2:
            return None
        self._free_bytes -= size_bytes
        return MemoryStorage(size_bytes, self._credit)

    def leave(self, ticket: Ticket) -> None:
        """The upload is whole, given up, or wanted no more: its place goes to another. Its storage stays its own."""
        if ticket.slow is not None:
            ticket.slow.cancel()
        self._class_of(ticket).waiting.pop(ticket, None)
        self._free_slot(ticket)
        self._take_for_stream(ticket, -ticket.under_way_bytes)
        self._advance()

    async def close(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        for ticket in self._holders:
            if ticket.slow is not None:
                ticket.slow.cancel()
        for task in self._making:
            task.cancel()
        await asyncio.gather(*self._making, return_exceptions=True)

    def _class_of(self, ticket: Ticket) -> _SizeClass:
        return next(size_class for size_class in self._classes if ticket.size_bytes >= size_class.min_bytes)

    def _allowance_s(self, ticket: Ticket) -> float:
        return self._slow_after_s + ticket.size_bytes / _EXPECTED_BYTES_PER_S

    def _free_slot(self, ticket: Ticket) -> None:
        size_class = self._holders.pop(ticket, None)
        if size_class is not None:
            size_class.free_slots += 1

    def _advance(self) -> None:
        """Grants in the order of requests; nobody overtakes one who waits for memory, or large ones would starve."""
        while True:
            ready = [c for c in self._classes if c.waiting and c.free_slots]
            if not ready:
                return
            size_class = min(ready, key=lambda c: c.first.number)
            ticket = size_class.first
            if ticket.size_bytes > self._total_bytes:
                ticket.wants_file = True
            if ticket.storage is None and not ticket.wants_file and ticket.size_bytes > self._free_bytes:
                self._wait_for_memory(ticket)
                return
            del size_class.waiting[ticket]
            size_class.free_slots -= 1
            self._holders[ticket] = size_class
            self._grant(ticket)

    def _wait_for_memory(self, ticket: Ticket) -> None:
        if self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._allowance_s(ticket), self._give_file, ticket)

    def _give_file(self, ticket: Ticket) -> None:
        self._patience = None
        ticket.wants_file = True
        self._advance()

    def _grant(self, ticket: Ticket) -> None:
        ticket.slow = asyncio.get_running_loop().call_later(self._allowance_s(ticket), self._leave_slot, ticket)
        if ticket.storage is not None:
            ticket.on_grant(ticket.storage)
        elif ticket.wants_file:
            task = asyncio.create_task(self._make_file(ticket))
            self._making.add(task)
            task.add_done_callback(self._making.discard)
        else:
            self._free_bytes -= ticket.size_bytes
            ticket.storage = MemoryStorage(ticket.size_bytes, self._credit)
            ticket.on_grant(ticket.storage)

    def _leave_slot(self, ticket: Ticket) -> None:
        if not isinstance(ticket.storage, MemoryStorage):
            under_way_bytes = min(_STREAM_BYTES, ticket.size_bytes)
            room_bytes = self._total_bytes // _STREAMS_PART - self._streams_bytes
            if under_way_bytes > min(room_bytes, self._free_bytes):
                # Others would hold more than there is room for: it stays until they are done, or it is.
                loop = asyncio.get_running_loop()
                ticket.slow = loop.call_later(self._allowance_s(ticket), self._leave_slot, ticket)
                return
            self._take_for_stream(ticket, under_way_bytes)
        self._free_slot(ticket)
        self._advance()

    def _take_for_stream(self, ticket: Ticket, size_bytes: int) -> None:
        """Credit, or, where it is less than nothing, credit back."""
        ticket.under_way_bytes += size_bytes
        self._streams_bytes += size_bytes
        self._free_bytes -= size_bytes

    async def _make_file(self, ticket: Ticket) -> None:
        try:
            storage = await self._spool.create(ticket.size_bytes)
        except FednError as error:
            self.leave(ticket)
            ticket.on_failure(error)
            return
        ticket.storage = storage
        ticket.on_grant(storage)

    def _credit(self, size_bytes: int) -> None:
        self._free_bytes += size_bytes
        self._advance()
