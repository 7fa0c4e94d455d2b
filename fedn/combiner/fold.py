"""Adding updates to a round's aggregate, outside the event loop and overlapped with other arrivals.

Not here: whether an update may count (the round and the arrival checks), and the arithmetic (fedn.aggregation).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fedn.aggregation.base import Aggregate, Rule
from fedn.aggregation.gathering.base import Gathered, GatheringRule
from fedn.combiner.buffers import Storage
from fedn.combiner.coding import read_update
from fedn.combiner.objects import StoredObject, cut
from fedn.combiner.spill import SpillFile, bundle
from fedn.models.codecs.chain import Encoding
from fedn.models.wire import ModelSpec
from fedn.network.frames import CHUNK_BYTES
from fedn.network.generated import common_pb2 as wire
from fedn.plan.allocator import return_freed_memory
from fedn.protocol.errors import FednError
from fedn.protocol.names import check_digest
from fedn.protocol.tasks import UpdateMetadata

_INLINE_BYTES = 1 << 20
"""Models up to that size are summed on the event loop."""
GIGANTIC_BYTES = 512 << 20
"""With models of that size, memory that was freed is given back to the system before much is needed at once."""


@dataclass(frozen=True, eq=False)
class Arrived:
    """An update, whole and checked. Whoever folds it releases the storage."""

    client: str
    task_id: str
    update_id: str
    size_bytes: int
    metadata: UpdateMetadata
    spec: ModelSpec | None
    """What the bytes hold; None where they are packed."""
    storage: Storage
    encoding: Encoding | None = None
    """Of the chain that it went through; None where it came as it is."""

    @property
    def work_bytes(self) -> int:
        """What adding it has to go through."""
        return self.size_bytes if self.encoding is None else max(self.size_bytes, self.encoding.base.size_bytes)


@dataclass(frozen=True)
class Folded:
    """What became of an update in the sum."""

    arrived: Arrived
    weight: float
    error: FednError | None


class Fold:
    """One round's aggregate, used by one thread at a time. Its other methods belong to the loop.

    Args:
        rule, sum_dtype: of the plan.
        base: of the round's base model; the aggregate needs its bytes only for updates of the form delta.
        on_folded: called on the loop for each update, in the order of `put`.
        on_crash: called on the loop where adding failed in a way that leaves the sum unknown.
        weight_of: what an update with such metadata weighs.
        spill_folder: where updates wait for a rule that gathers them.
    """

    def __init__(
        self,
        rule: Rule,
        sum_dtype: str,
        base: StoredObject,
        spec: ModelSpec,
        executor: Executor,
        on_folded: Callable[[Folded], None],
        on_crash: Callable[[BaseException], None],
        *,
        weight_of: Callable[[UpdateMetadata], float],
        spill_folder: Path | None = None,
    ) -> None:
        self._rule = rule
        self._weight_of = weight_of
        self._spill_folder = spill_folder
        self._spill: SpillFile | None = None
        self._gathered: list[tuple[str, str]] = []
        """(client, task) of the updates that a rule gathers, in their order."""
        self._sum_dtype = sum_dtype
        self._base: StoredObject | None = base
        self._algorithm = check_digest(base.object_id)[0]
        self._spec = spec
        self._executor = executor
        self._on_folded = on_folded
        self._on_crash = on_crash
        self._waiting: deque[Arrived] = deque()
        self._waiting_bytes = 0
        self._running: asyncio.Future[list[Folded]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._aggregates: dict[str, Aggregate] = {}
        self._spent_s = 0.0

    def put(self, arrived: Arrived) -> None:
        """Takes an update over; `on_folded` tells when it is in the sum."""
        self._waiting.append(arrived)
        self._waiting_bytes += arrived.work_bytes
        self._idle.clear()
        if self._running is None:
            self._start()

    async def settled(self) -> None:
        """Until all that was put is in."""
        await self._idle.wait()

    async def seal(self) -> tuple[StoredObject | None, float, float]:
        """When all that was put is in: (combiner model, its weight, milliseconds of folding); no model of no updates.

        InvalidInput (`sum_overflow`) where the mean is not finite.
        """
        await self.settled()
        if self._spec.size_bytes <= _INLINE_BYTES and not self._rule.gathers:
            return self._seal()
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._seal)

    def let_base_go(self) -> bool:
        """Drops the base model where the sealed model does not need its bytes; whether it did."""
        if "delta" in self._aggregates or self._rule.needs_base:
            return False
        self._base = None
        return True

    async def abandon(self) -> None:
        """Throws away what waits, when the update being added is in."""
        self._drop_waiting()
        await self._idle.wait()
        self._close_spill()

    def _close_spill(self) -> None:
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().storage.release()
        self._waiting_bytes = 0

    def _start(self) -> None:
        batch = list(self._waiting)
        small = self._waiting_bytes <= _INLINE_BYTES and not self._rule.gathers
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
        if self._waiting:
            self._start()
        else:
            self._idle.set()
        if not future.cancelled():
            for folded in future.result():
                self._on_folded(folded)

    def _add(self, batch: list[Arrived]) -> list[Folded]:
        started = time.perf_counter()
        done = []
        for arrived in batch:
            weight, error = self._weight_of(arrived.metadata), None
            try:
                self._add_one(arrived, weight)
            except FednError as refusal:
                error = refusal
            else:
                if self._rule.gathers:
                    self._gathered.append((arrived.client, arrived.task_id))
            done.append(Folded(arrived, weight, error))
        self._spent_s += time.perf_counter() - started
        return done

    def _add_one(self, arrived: Arrived, weight: float) -> None:
        form, data = arrived.metadata.form, arrived.storage.pieces()
        share = self._rule.share_of(arrived.metadata)
        if arrived.encoding is not None:
            payload = read_update(arrived.encoding, data)
            self._aggregate(form).add_encoded(payload, weight, form=form, share=share)
            return
        assert arrived.spec is not None  # only packed bytes have none, and those are encoded
        self._aggregate(form).add(data, arrived.spec, weight, form=form, share=share)

    def _aggregate(self, form: str) -> Aggregate:
        """Models and deltas are summed apart: only deltas need the base model's bytes."""
        if self._rule.gathers:
            return self._gathering()
        if form not in self._aggregates:
            needed = form == "delta" or self._rule.needs_base
            base_model = self._base.bytes_in_pieces() if needed and self._base is not None else None
            if self._spec.size_bytes >= GIGANTIC_BYTES:
                # Messages on their way to clients left hundreds of megabytes that the sum cannot use.
                return_freed_memory()
            self._aggregates[form] = self._rule.start(self._spec, self._sum_dtype, base_model)
        return self._aggregates[form]

    def _gathering(self) -> Aggregate:
        if "" not in self._aggregates:
            assert self._base is not None and self._spill_folder is not None  # the rule needs both
            self._spill = SpillFile(self._spill_folder)
            rule = cast(GatheringRule, self._rule)
            self._aggregates[""] = rule.gather(self._spec, self._base.bytes_in_pieces(), self._spill)
        return self._aggregates[""]

    def _seal_gathered(self) -> tuple[StoredObject | None, float, float]:
        """The rule over the updates, or with the scope `global` all of them, in the order of their clients."""
        started = time.perf_counter()
        gathered = cast(Gathered, self._aggregates.pop("", None))
        try:
            if gathered is None or not gathered.count:
                return None, 0.0, self._spent_s * 1000
            if cast(GatheringRule, self._rule).scope == "global":
                rows = gathered.rows()
                order = sorted(range(len(rows)), key=lambda at: self._gathered[at])
                stored = bundle([rows[at] for at in order], self._algorithm)
            else:
                stored = cut(wire.OBJECT_KIND_MODEL, gathered.result(CHUNK_BYTES), self._algorithm)
        finally:
            self._close_spill()
        self._spent_s += time.perf_counter() - started
        return stored, gathered.weight, self._spent_s * 1000

    def _seal(self) -> tuple[StoredObject | None, float, float]:
        if self._rule.gathers:
            return self._seal_gathered()
        started = time.perf_counter()
        # Deltas last: their aggregate has the base that the merged result needs.
        sums = [self._aggregates[form] for form in ("delta", "model") if form in self._aggregates]
        total = next((aggregate for aggregate in sums if aggregate.count), None)
        if total is None:
            return None, 0.0, self._spent_s * 1000
        for other in sums:
            if other is not total and other.count:
                total.merge(other)
        stored = cut(wire.OBJECT_KIND_MODEL, total.result(CHUNK_BYTES), self._algorithm)
        self._aggregates.clear()
        self._spent_s += time.perf_counter() - started
        return stored, total.weight, self._spent_s * 1000
