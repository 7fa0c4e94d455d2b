"""One combiner's part in an asynchronous session: the tasks there that start from one global model, and what it hands
up when it is asked.

Not here: what that is (fedn.reducer.engine.difference_part, fedn.reducer.engine.mean_part), when to ask, and what
becomes of it (fedn.reducer.engine.flights, fedn.reducer.engine.asynchronous).
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fedn.models.pieces import Pieces
from fedn.network.convert import spec_to_wire
from fedn.network.generated import combiner_pb2 as link
from fedn.protocol.rounds import CombinerModel, HandsUp, LedgerEntry, RoundSpec
from fedn.protocol.tasks import TaskSpec
from fedn.reducer.engine.connection import Connection
from fedn.reducer.engine.link import CombinerLink
from fedn.reducer.engine.objects import ObjectCache
from fedn.reducer.engine.part import SILENCE_S, RoundPart

OnOver = Callable[["BufferPart", BaseException | None], None]


@dataclass(frozen=True)
class HandedUp:
    """What a combiner told of under a number: the model is still there."""

    number: int
    """0: the last one, which came with the round's end."""
    model: CombinerModel

    @property
    def clients(self) -> frozenset[str]:
        return frozenset(part.client for part in self.model.contributions)


class BufferPart(RoundPart, ABC):
    """See the module, and `RoundPart`. `start` once; then `add`, and what asks for a hand-up; in the end `cancel` or
    `acknowledge`.

    Args:
        on_over: told when nothing more will come, and why where that is an error.
        instance: the combiner process that an earlier reducer process started the round at.
        accounted: clients whose updates are in the trail already: the combiner may tell of them again.
    """

    hands_up: HandsUp

    def __init__(
        self,
        combiner_link: CombinerLink,
        spec: RoundSpec,
        objects: ObjectCache,
        *,
        max_model_bytes: int,
        on_ledger: Callable[[LedgerEntry], None],
        on_instance: Callable[[str, str], None],
        on_over: OnOver,
        instance: str | None = None,
        accounted: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(
            combiner_link,
            spec,
            objects,
            max_model_bytes=max_model_bytes,
            on_ledger=on_ledger,
            on_instance=on_instance,
            instance=instance,
        )
        self._on_over = on_over
        self._accounted = accounted
        self._sent = 0
        """Tasks of the spec that the combiner has confirmed on this link."""
        self._grown = asyncio.Event()
        self._told = asyncio.Event()
        self._wanted = self._last = 0
        """Number of the hand-up that was asked for last, and of the one that was told of last."""
        self._order: Callable[[Connection], None] = _nothing
        """What asks for that hand-up."""
        self._replayed: int | None = None
        """Number of the last event that was told before this part first looked; None: it did not look yet."""
        self._pushed: set[str] = set()
        """Objects that were sent on this link."""
        self._alive_at = time.monotonic()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the round at the combiner, or finds it there, and follows it from now on."""
        self._watching = asyncio.create_task(self._watch(), name=f"part {self.combiner} {self._spec.name}")
        self._watching.add_done_callback(self._note_end)

    @property
    def over(self) -> bool:
        """Whether nothing more will come, and no task can be added."""
        return self._watching is not None and self._watching.done()

    def add(self, tasks: Sequence[TaskSpec]) -> None:
        """More tasks from the same base model."""
        self._spec = self._spec.model_copy(update={"tasks": (*self._spec.tasks, *tasks)})
        self._bases |= {task.client: task.model_id for task in tasks}
        self._closes_at = time.monotonic() + self._spec.deadline_s
        self._grown.set()

    async def _ask_up(self, order: Callable[[Connection, int], None]) -> None:
        """Asks for what is in, and waits until the combiner has told of it, or nothing more will come.

        Args:
            order: asks a connection, given the hand-up's number.

        Raises:
            PartLost: it cannot be had any more.
        """
        number = self._wanted = self._last + 1
        self._order = lambda connection: order(connection, number)
        self._tell(self._order)
        await self._until(lambda: self._last >= number)

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Until it is so, or nothing more will come. PartLost where it will not."""
        while not ready() and not self.over:
            self._told.clear()
            await self._told.wait()
        if not ready() and self._watching is not None:
            self._watching.result()

    @property
    def _caught_up(self) -> bool:
        """Whether all was heard that was told before this part first looked: to another reducer process."""
        return self._replayed is not None and self._next_event > self._replayed

    async def _take_model(self, model: CombinerModel) -> Pieces:
        self._alive_at = time.monotonic()
        return await self._over_cuts(partial(self._fetch_model, model=model))

    async def _fetch_model(self, connection: Connection, model: CombinerModel) -> Pieces:
        return await self._fetch(connection, model.model_id, model.size_bytes)

    def acknowledge_hand_up(self, handed: HandedUp) -> None:
        """It is durable, or given up: the combiner may forget it."""
        if handed.number:
            self._tell(lambda connection: connection.acknowledge_hand_up(self._spec.name, handed.number))

    def acknowledge(self) -> None:
        """Nothing more is wanted of this part."""
        if self._watching is not None:
            self._watching.cancel()
        super().acknowledge()

    def _note_end(self, watching: "asyncio.Task[None]") -> None:
        self._told.set()
        if not watching.cancelled():
            self._on_over(self, watching.exception())

    async def _watch(self) -> None:
        done = await self._over_cuts(self._watch_link)
        self._keep(0, done)

    async def _watch_link(self, connection: Connection) -> link.RoundDone:
        """The round's end, if it comes on this link."""
        count, self._pushed = len(self._spec.tasks), set()
        held = self._instance is not None and self._spec.name in connection.rounds
        try:
            await self._begin(connection)
            self._sent = 0 if held else count
            if self._wanted > self._last:
                self._order(connection)  # it may have been lost with the last link
            sending = asyncio.create_task(self._send_more(connection))
            following = asyncio.create_task(self._follow(connection))
            try:
                await asyncio.wait({sending, following}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
                return following.result()
            finally:
                for task in (sending, following):
                    task.cancel()
                await asyncio.gather(sending, following, return_exceptions=True)
        finally:
            self._alive_at = time.monotonic()
            connection.forget(self._spec.name)

    async def _send_more(self, connection: Connection) -> None:
        """Sends the tasks that the combiner may not know, now and whenever there are new ones."""
        while True:
            self._grown.clear()
            count = len(self._spec.tasks)
            if count > self._sent:
                more = self._spec.model_copy(update={"tasks": self._spec.tasks[self._sent :]})
                status = await connection.start_round(spec_to_wire(more))
                self._sent = count
                await self._push_needed(connection, status)
            await self._grown.wait()

    async def _push_needed(self, connection: Connection, status: link.RoundStatus) -> None:
        if self._replayed is None:
            self._replayed = status.last_event
            self._told.set()
        new = [object_id for object_id in status.needed_objects if object_id not in self._pushed]
        self._pushed.update(new)
        await super()._push_needed(connection, link.RoundStatus(needed_objects=new))

    def _take(self, event: link.RoundEvent) -> None:
        if event.HasField("handed_up"):
            self._last = max(self._last, event.handed_up.number)
            self._keep(event.handed_up.number, event.handed_up.result)
        else:
            super()._take(event)
        self._told.set()

    @abstractmethod
    def _keep(self, number: int, result: link.RoundDone) -> None:
        """What was told of under that number, perhaps again; 0: with the round's end."""

    @property
    def _gives_up_at(self) -> float:
        """A part without a task under way has no deadline, but for a link that stays broken."""
        closes_at = self._closes_at + self._spec.upload_grace_s if self._spec.tasks else 0.0
        return max(closes_at, self._alive_at) + SILENCE_S

    @property
    def _missing(self) -> str:
        return f"send what it has for {SILENCE_S:g} s"


def _nothing(connection: Connection) -> None:
    """Nothing was asked for yet."""
