"""One combiner's part in an asynchronous session: the tasks there that start from one global model, and the sums of
their updates that it hands up when it is asked.

Not here: when to ask, and what becomes of the sums (fedn.reducer.engine.flights, fedn.reducer.engine.asynchronous).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fedn.models.pieces import Pieces
from fedn.network.convert import result_from_wire, spec_to_wire
from fedn.network.generated import combiner_pb2 as link
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rounds import CombinerModel, LedgerEntry, RoundSpec
from fedn.protocol.tasks import TaskKind, TaskSpec
from fedn.reducer.engine.connection import Connection
from fedn.reducer.engine.link import CombinerLink
from fedn.reducer.engine.objects import ObjectCache
from fedn.reducer.engine.part import SILENCE_S, RoundPart

OnOver = Callable[["BufferPart", BaseException | None], None]


@dataclass(frozen=True)
class HandedUp:
    """The mean difference of some updates to the base model of their tasks."""

    number: int
    """0: the last one, which came with the round's end."""
    model: CombinerModel

    @property
    def clients(self) -> frozenset[str]:
        return frozenset(part.client for part in self.model.contributions)


class BufferPart(RoundPart):
    """See the module, and `RoundPart`. `start` once; then `add`, `hand_up`; in the end `cancel` or `acknowledge`.

    Args:
        on_over: told when nothing more will come, and why where that is an error.
        instance: the combiner process that an earlier reducer process started the round at.
        accounted: clients whose updates are in the trail already: the combiner may tell of them again.
    """

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
        self._handed: list[HandedUp] = []
        """Told of, and not taken yet."""
        self._counted: set[str] = set()
        """Clients whose updates are in what was handed up."""
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

    @property
    def counted(self) -> frozenset[str]:
        """Clients whose updates are in what was handed up."""
        return frozenset(self._counted)

    @property
    def has_more(self) -> bool:
        """Whether there is something that `hand_up` would take."""
        return bool(self._handed or self._summed)

    @property
    def _summed(self) -> set[str]:
        """Clients whose updates are in the sum that is to be handed up next, as far as is known."""
        trained = {task.client for task in self._spec.tasks if task.kind is TaskKind.TRAIN}
        return (self._updates.keys() & trained) - self._counted - self._accounted

    def add(self, tasks: Sequence[TaskSpec]) -> None:
        """More tasks from the same base model."""
        self._spec = self._spec.model_copy(update={"tasks": (*self._spec.tasks, *tasks)})
        self._bases |= {task.client: task.model_id for task in tasks}
        self._closes_at = time.monotonic() + self._spec.deadline_s
        self._grown.set()

    async def hand_up(self) -> list[tuple[HandedUp, Pieces]]:
        """All that is in and was not taken before, with its bytes. PartLost where it cannot be had any more."""
        if self._summed and not self.over:
            self._wanted = self._last + 1
            self._tell(lambda connection: connection.hand_up(self._spec.name, self._wanted))
            await self._until_told()
        taken = []
        while self._handed:
            handed = self._handed[0]
            self._alive_at = time.monotonic()
            tensors = await self._over_cuts(partial(self._fetch_model, model=handed.model))
            self._handed.pop(0)
            taken.append((handed, tensors))
        self._downloads.clear()
        return taken

    async def _until_told(self) -> None:
        """Until the combiner has told of what was asked for, or nothing more will come."""
        while self._last < self._wanted and not self.over:
            self._told.clear()
            await self._told.wait()
        if self._last < self._wanted and self._watching is not None:
            self._watching.result()

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
                connection.hand_up(self._spec.name, self._wanted)  # it may have been lost with the last link
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
        new = [object_id for object_id in status.needed_objects if object_id not in self._pushed]
        self._pushed.update(new)
        await super()._push_needed(connection, link.RoundStatus(needed_objects=new))

    def _take(self, event: link.RoundEvent) -> None:
        if not event.HasField("handed_up"):
            super()._take(event)
            return
        self._last = max(self._last, event.handed_up.number)
        self._keep(event.handed_up.number, event.handed_up.result)
        self._told.set()

    def _keep(self, number: int, result: link.RoundDone) -> None:
        handed = HandedUp(number, result_from_wire(result, self._link.name))
        if not handed.model.model_id:
            return
        self._check(handed.model)
        if handed.clients & self._counted or not handed.clients <= self._updates.keys():
            raise InvalidInput(
                "foreign_contribution", "a combiner counts updates twice, or some that it never reported"
            )
        self._counted |= handed.clients
        if handed.clients <= self._accounted:
            self.acknowledge_hand_up(handed)
        else:
            self._handed.append(handed)

    @property
    def _gives_up_at(self) -> float:
        """A part without a task under way has no deadline, but for a link that stays broken."""
        return max(self._closes_at + self._spec.upload_grace_s, self._alive_at) + SILENCE_S

    @property
    def _missing(self) -> str:
        return f"send what it has for {SILENCE_S:g} s"
