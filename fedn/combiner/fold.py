"""Adding updates to a round's total, outside the event loop and overlapped with other arrivals.

Not here: whether an update may count (the round and the arrival checks), and what a total is (fedn.combiner.totals).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from fedn.combiner.objects import StoredObject
from fedn.combiner.totals import Arrived, Total
from fedn.protocol.errors import FednError
from fedn.protocol.tasks import UpdateMetadata
from fedn.stores.updates.base import KeptUpdate


@dataclass(frozen=True)
class Folded:
    """What became of an update in the sum."""

    arrived: Arrived
    weight: float
    error: FednError | None


class Fold:
    """One round's total, used by one thread at a time. Its other methods belong to the loop.

    Args:
        total: closed with this.
        size_bytes: of the model that comes of it, about.
        on_folded: called on the loop for each update, in the order of `put`.
        on_crash: called on the loop where adding failed in a way that leaves the total unknown.
        weight_of: what an update with such metadata weighs.
    """

    def __init__(
        self,
        total: Total,
        size_bytes: int,
        executor: Executor,
        on_folded: Callable[[Folded], None],
        on_crash: Callable[[BaseException], None],
        *,
        weight_of: Callable[[UpdateMetadata], float],
    ) -> None:
        self._total = total
        self._size_bytes = size_bytes
        self._weight_of = weight_of
        self._executor = executor
        self._on_folded = on_folded
        self._on_crash = on_crash
        self._waiting: deque[Arrived] = deque()
        self._waiting_bytes = 0
        self._running: asyncio.Future[list[Folded]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._spent_s = 0.0
        self._paused = False
        """Whether a model is being handed up: nothing is added meanwhile."""

    def put(self, arrived: Arrived) -> None:
        """Takes an update over; `on_folded` tells when it is in the sum."""
        self._waiting.append(arrived)
        self._waiting_bytes += arrived.work_bytes
        self._idle.clear()
        if self._running is None and not self._paused:
            self._start()

    async def settled(self) -> None:
        """Until all that was put is in."""
        await self._idle.wait()

    async def seal(self) -> tuple[StoredObject | None, float, float]:
        """When all that was put is in: (combiner model, its weight, milliseconds of folding); no model of no updates.

        InvalidInput (`sum_overflow`) where the mean is not finite.
        """
        await self.settled()
        return await self._sealed()

    async def _sealed(self) -> tuple[StoredObject | None, float, float]:
        if self._size_bytes <= self._total.inline_bytes:
            return self._seal()
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._seal)

    @property
    def counted(self) -> Sequence[KeptUpdate]:
        """As the total's, after `seal`."""
        return self._total.counted

    async def hand_up(self) -> tuple[StoredObject | None, float, float]:
        """As `seal`, of what is in by now; what waits, and what comes later, goes into the next model.

        When it returns, `on_folded` was called for all that is in the model, and for nothing else since the last one.
        """
        self._paused = True
        self._idle.clear()
        try:
            if self._running is not None:
                await asyncio.wait([self._running])
            sealed = await self._sealed()
            self._spent_s = 0.0
            return sealed
        finally:
            self._paused = False
            self._go_on()

    def let_base_go(self) -> bool:
        """Drops the base model where the sealed model does not need its bytes; whether it did."""
        return self._total.let_base_go()

    async def abandon(self) -> None:
        """Throws away what waits, when the update being added is in."""
        self._drop_waiting()
        await self._idle.wait()
        self._total.close()

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().storage.release()
        self._waiting_bytes = 0

    def _go_on(self) -> None:
        if self._waiting:
            self._start()
        else:
            self._idle.set()

    def _start(self) -> None:
        batch, small = list(self._waiting), self._waiting_bytes <= self._total.inline_bytes
        self._waiting.clear()
        self._waiting_bytes = 0
        if small:
            self._running = asyncio.create_task(self._add_here(batch))
        else:
            self._running = asyncio.get_running_loop().run_in_executor(self._executor, self._add, batch)
        self._running.add_done_callback(lambda future: self._added(batch, future))

    async def _add_here(self, batch: list[Arrived]) -> list[Folded]:
        """On the loop: a hand-over to a thread costs more than the sums of small models."""
        return self._add(batch)

    def _added(self, batch: list[Arrived], future: "asyncio.Future[list[Folded]]") -> None:
        self._running = None
        for arrived in batch:
            arrived.storage.release()
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._drop_waiting()
            self._idle.set()
            self._on_crash(error)
            return
        if not self._paused:
            self._go_on()
        if not future.cancelled():
            for folded in future.result():
                self._on_folded(folded)

    def _add(self, batch: list[Arrived]) -> list[Folded]:
        started = time.perf_counter()
        done = []
        for arrived in batch:
            weight, error = self._weight_of(arrived.metadata), None
            try:
                self._total.add(arrived, weight)
            except FednError as refusal:
                error = refusal
            done.append(Folded(arrived, weight, error))
        self._spent_s += time.perf_counter() - started
        return done

    def _seal(self) -> tuple[StoredObject | None, float, float]:
        started = time.perf_counter()
        stored, weight = self._total.seal()
        self._spent_s += time.perf_counter() - started
        return stored, weight, self._spent_s * 1000
