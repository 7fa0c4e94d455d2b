"""The tasks of an asynchronous session that are under way, whichever model they started from, and the updates that no
commit has taken yet.

Not here: who is asked, and when a commit is made (fedn.reducer.engine.asynchronous); what combiners hand up, which
differs between rules (fedn.reducer.engine.difference_flights, fedn.reducer.engine.mean_flights).
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedn.models.pieces import Pieces
from fedn.protocol.errors import FednError
from fedn.protocol.rounds import CombinerModel, LedgerEntry, LedgerState, Reason
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.buffer_part import BufferPart, HandedUp
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.open_round import OpenRound
from fedn.reducer.engine.part import PartLost, PartResult
from fedn.scheduling.base import CarryingScheduler


@dataclass(eq=False)
class Base:
    """A global model that tasks started from, and the combiners' rounds that hold these tasks."""

    index: int
    """Of the round in which it was the latest model."""
    entry: TrailEntry
    """The model's."""
    name: RoundName
    """Of the rounds at the combiners."""
    parts: dict[str, BufferPart] = field(default_factory=dict)


@dataclass(frozen=True)
class Flight:
    """One task under way, or its update that is at a combiner."""

    base: Base
    combiner: str
    kind: TaskKind


@dataclass(frozen=True)
class Taken:
    """What a combiner handed up, and the next commit is made of."""

    base: Base
    """Of the part that it came with."""
    part: BufferPart
    handed: HandedUp
    tensors: Pieces


MakePart = Callable[[Base, str, Sequence[TaskSpec]], BufferPart]


class Flights(ABC):
    """See the module. Belongs to the engine's loop.

    Args:
        make_part: the part of a combiner in the tasks of a base, not started yet; of this class's kind.
        changed: set whenever a task ends or a part is over.
    """

    part_kind: type[BufferPart]
    form: Literal["model", "delta"]
    """Of what combiners hand up, as in `FromBase`."""

    def __init__(
        self, make_part: MakePart, changed: asyncio.Event, scheduler: CarryingScheduler, context: EngineContext
    ) -> None:
        self._make_part = make_part
        self._changed = changed
        self._scheduler = scheduler
        self._context = context
        self._bases: dict[int, Base] = {}
        self._flying: dict[str, Flight] = {}
        self._summed: dict[str, Flight] = {}
        """Clients whose updates are at a combiner, as far as is known, and were not handed up."""
        self._handed: dict[str, Flight] = {}
        """Clients whose updates are in what was taken, and in no commit yet."""
        self._taken: list[Taken] = []
        self._failure: BaseException | None = None
        self.round: OpenRound
        """Where changes are written down; set before anything is asked."""

    @property
    def training(self) -> int:
        """Train tasks under way."""
        return sum(flight.kind is TaskKind.TRAIN for flight in self._flying.values())

    @property
    def flying(self) -> int:
        """Tasks of any kind under way."""
        return len(self._flying)

    @property
    def arrived(self) -> int:
        """Updates that the next commit could take."""
        return len(self._summed) + len(self._handed)

    @property
    def handed(self) -> int:
        """Of these, the updates that are in what was taken."""
        return len(self._handed)

    @property
    def taken(self) -> Sequence[Taken]:
        """What was handed up and is not committed, in a fixed order."""
        return sorted(self._taken, key=lambda one: (one.base.index, one.part.combiner, one.handed.number))

    @property
    def results(self) -> tuple[PartResult, ...]:
        """The same, as a commit takes it."""
        return tuple(PartResult(self._model_of(taken), taken.tensors, {}) for taken in self.taken)

    @property
    def models(self) -> dict[int, TrailEntry]:
        """Index of each base, to the trail entry of its model."""
        return {base.index: base.entry for base in self._bases.values()}

    def check(self) -> None:
        """Raises what a part ended with unforeseen."""
        if self._failure is not None:
            raise self._failure

    def base(self, name: RoundName, entry: TrailEntry) -> Base:
        """The model that tasks of that round start from, whose trail entry is given."""
        base = self._bases.get(name.index)
        if base is None:
            base = self._bases[name.index] = Base(name.index, entry, name)
        return base

    def takes(self, base: Base, combiner: str) -> bool:
        """Whether clients of that combiner may be asked to work on that model."""
        part = base.parts.get(combiner)
        return part is None or not part.over

    def ask(self, base: Base, assignments: Mapping[str, Sequence[TaskSpec]]) -> None:
        """Tasks go out; their entries are in the round."""
        for combiner, tasks in assignments.items():
            self._flying |= {task.client: Flight(base, combiner, task.kind) for task in tasks}
            part = base.parts.get(combiner)
            if part is None:
                self.watch(base, self._make_part(base, combiner, tasks))
            else:
                part.add(tasks)

    def watch(self, base: Base, part: BufferPart) -> None:
        base.parts[part.combiner] = part
        part.start()

    def find(self, client: str, flight: Flight) -> None:
        """A task that another reducer process left under way. Before its part is watched."""
        self._flying[client] = flight

    # What parts tell

    def note(self, base: Base, entry: LedgerEntry) -> None:
        """A change of a task's state. What is told again of a task that is done with does not count."""
        flight = self._flying.get(entry.client)
        if flight is None or flight.base is not base or flight.combiner != entry.combiner:
            return
        if entry.state.final:
            del self._flying[entry.client]
            if entry.state is LedgerState.UPDATED and flight.kind is TaskKind.TRAIN:
                self._summed[entry.client] = flight
                self._note_update(flight, entry)
            self._changed.set()
        self.round.enter(entry.model_copy(update={"base_index": base.index}))

    def over(self, base: Base, part: BufferPart, error: BaseException | None) -> None:
        """A part will tell nothing more."""
        if base.parts.get(part.combiner) is not part:
            return
        if isinstance(error, PartLost):
            self._lose(base, part, error)
        elif error is not None:
            self._failure = error
        else:
            self._drop_unanswered(base, part)
        self._changed.set()

    def _lose(self, base: Base, part: BufferPart, error: FednError) -> None:
        """Its tasks, and the updates that it did not hand over, are gone."""
        if base.parts.get(part.combiner) is part:
            del base.parts[part.combiner]
        part.cancel(error.message)
        for client in self._of(base, part.combiner):
            self._drop_lost(client, error)

    def _drop_lost(self, client: str, error: FednError) -> None:
        for flights in (self._flying, self._summed, self._handed):
            flights.pop(client, None)
        reason = Reason(code=error.code, message=error.message, fix=error.fix)
        self.round.override(client, LedgerState.DISCONNECTED, reason)

    def _drop_unanswered(self, base: Base, part: BufferPart) -> None:
        """The combiner ended its round: what it did not tell will not come."""
        for client in self._of(base, part.combiner):
            if client in self._flying:
                del self._flying[client]
                reason = Reason(code="no_answer", message="the combiner's round ended before the client answered")
                self.round.override(client, LedgerState.LATE, reason)

    def _refuse_uncounted(self, client: str, why: str) -> None:
        """An update that was reported is in nothing that was handed up."""
        reason = Reason(code="not_counted", message=why, fix="See the combiner's log.")
        self.round.override(client, LedgerState.REFUSED, reason)

    def _of(self, base: Base, combiner: str) -> list[str]:
        """Clients that work, or whose updates are summed, there."""
        return [
            client
            for flights in (self._flying, self._summed)
            for client, flight in list(flights.items())
            if flight.base is base and flight.combiner == combiner
        ]

    # What a commit does

    @abstractmethod
    async def collect(self, base: Base) -> None:
        """Takes what the combiners have; what is lost on the way is not there any more.

        Args:
            base: the model that the commit will change.
        """

    @abstractmethod
    def shares(self, index: int) -> Sequence[float] | None:
        """What of each result's difference to its base model a commit of that index applies; None: all."""

    @abstractmethod
    def counted(self, index: int) -> dict[str, tuple[int, float]]:
        """Client to the staleness and the weight, in a commit of that index, of each update that is new in it."""

    def remember(self, models: Sequence[CombinerModel]) -> None:  # noqa: B027 - not every kind needs to know
        """Of these the session's last commit was made, when this process began."""

    def _model_of(self, taken: Taken) -> CombinerModel:
        """As the trail tells it."""
        return taken.handed.model

    def _note_update(self, flight: Flight, entry: LedgerEntry) -> None:  # noqa: B027 - as above
        """A client's update is at a combiner."""

    def settle(self) -> None:
        """What was taken is durable."""
        for taken in self._taken:
            taken.part.acknowledge_hand_up(taken.handed)
        self._taken.clear()
        self._handed.clear()

    def spoil(self, reason: Reason) -> None:
        """No model can come of what was taken."""
        for client in self._handed:
            self.round.override(client, LedgerState.REFUSED, reason)
        self.settle()

    @property
    def clients(self) -> list[str]:
        """Clients that work, or whose updates no commit takes."""
        return [*self._flying, *self._summed]

    def clients_of(self, index: int) -> list[str]:
        """Clients that started from that base's model and that no commit has counted; not those that were taken."""
        return [
            client
            for flights in (self._flying, self._summed)
            for client, flight in flights.items()
            if flight.base.index == index
        ]

    def outdated(self, index: int) -> list[str]:
        """Of these, the clients whose work is for nothing if that model is too old to count."""
        return self.clients_of(index)

    def give_up(self, index: int, reason: str) -> None:
        """Nobody shall work on that base's model any more. What of the ledger is to be said, the caller says."""
        self._give_up(index, self.clients_of(index), reason)

    def expire(self, index: int, reason: str) -> None:
        """That base's model is too old: as `give_up`, for those whom it costs their work."""
        self._give_up(index, self.outdated(index), reason)

    def _give_up(self, index: int, clients: Sequence[str], reason: str) -> None:
        base = self._bases.pop(index)
        for client in clients:
            self._flying.pop(client, None)
            self._summed.pop(client, None)
        for part in base.parts.values():
            part.cancel(reason)

    def release(self, latest: int) -> None:
        """Lets the combiners forget rounds in which nothing is under way, but for those of the latest model."""
        busy = {(f.base.index, f.combiner) for flights in (self._flying, self._summed) for f in flights.values()}
        for base in list(self._bases.values()):
            for combiner, part in list(base.parts.items()):
                if (base.index, combiner) not in busy and (base.index != latest or part.over):
                    del base.parts[combiner]
                    part.acknowledge()
            if base.index != latest and not base.parts:
                del self._bases[base.index]

    def end(self, reason: str) -> None:
        """Nothing of all this is wanted any more."""
        for index in list(self._bases):
            self.give_up(index, reason)
