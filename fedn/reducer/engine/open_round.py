"""A round of an asynchronous session: what happened between two commits. Its ledger has the tasks that ended in it,
whichever model they started from; those that are still under way pass on to the next round.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, Reason, RoundState
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.records import RoundRecord, spent_so_far
from fedn.reducer.engine.roster import AttachedClient
from fedn.reducer.engine.round_run import RoundRun
from fedn.scheduling.base import CarryingScheduler

TOO_STALE = "update_too_stale"


@dataclass(frozen=True)
class Closed:
    """A ledger as it is when its round is committed."""

    ledger: tuple[LedgerEntry, ...]
    ended: frozenset[str]
    """Clients whose entries do not pass on to the next round."""


class OpenRound(RoundRun):
    """See the module, and `RoundRun`. Belongs to the engine's loop, but for `record` and `ledger`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._entries: dict[str, LedgerEntry] = {}
        self._kinds: dict[str, TaskKind] = {}
        self._models: Mapping[int, TrailEntry] = {}
        self._closed: Closed | None = None

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        if self._closed is not None:
            return self._closed.ledger
        entries = self._entries.copy()
        return tuple(entries[client] for client in sorted(entries)) or self.record.ledger

    @property
    def entries(self) -> Mapping[str, LedgerEntry]:
        """What became of each client that was asked and is not done with: one entry a client."""
        return self._entries

    @property
    def task_kinds(self) -> dict[str, TaskKind]:
        return self._kinds

    def open(self, name: RoundName, base_model_id: str) -> None:
        """An attempt begins, with what is under way already; who else is asked is not known yet."""
        before, self._before = self._before or self.record.model_copy(update={"ledger": self.ledger}), None
        self._closed = None
        self.record = RoundRecord(
            name=name,
            kind=self.record.kind,
            state=RoundState.WAITING,
            base_model_id=base_model_id,
            spent=spent_so_far(before),
            started_at=time.time(),
        )

    async def gather(self) -> None:
        """Waits for clients as any round does. Unavailable (`too_few_clients`)."""
        await self._gather(self.record.name)

    def go_on(self, record: RoundRecord) -> None:
        """What another reducer process left running becomes this round."""
        self._before = None
        self.record = record.model_copy(update={"state": RoundState.RUNNING, "ledger": ()})

    def carry(self, entries: Mapping[str, LedgerEntry], kinds: Mapping[str, TaskKind]) -> None:
        """Tasks that began in earlier rounds are under way."""
        self._entries |= entries
        self._kinds |= kinds

    def begin(self) -> None:
        """Clients may be asked now."""
        now = time.time()
        waiting_ms = (now - self.record.started_at) * 1e3
        self.change(
            state=RoundState.RUNNING, deadline_at=now + self._plan.round_timeout_s, times_ms={"waiting": waiting_ms}
        )
        name = self.record.name
        self._context.events.publish(
            "round_started",
            session=name.session,
            round=name.index,
            attempt=name.attempt,
            round_kind=str(self.record.kind),
            clients=len(self._entries),
        )

    def ask(self, assignments: Mapping[str, Sequence[TaskSpec]], entries: Iterable[LedgerEntry]) -> None:
        """More clients have tasks, from this round's model; written down soon."""
        index, merged = self.record.name.index, dict(self.record.assignments)
        for combiner, tasks in assignments.items():
            merged[combiner] = (*merged.get(combiner, ()), *tasks)
            self._kinds |= {task.client: task.kind for task in tasks}
        own = {entry.client: entry.model_copy(update={"base_index": index}) for entry in entries if entry.task_id}
        self._entries |= own
        cohort = tuple(sorted({*self.record.cohort, *own}))
        self._past.note_cohort(index, cohort)
        self.change(assignments=merged, cohort=cohort)
        self._note_open()

    def _note_open(self) -> None:
        self.change(ledger=self.ledger)
        self.note()

    def enter(self, entry: LedgerEntry) -> None:
        """A change of a client's state; only of one that is in the ledger."""
        if entry.client in self._entries:
            self._entries[entry.client] = entry
            self._note_ledger(entry)

    def override(self, client: str, state: LedgerState, reason: Reason) -> None:
        entry = self._entries[client]
        self.enter(entry.model_copy(update={"state": state, "reason": reason, "updated_at": time.time()}))

    def closed(
        self,
        counted: Mapping[str, tuple[int, float]],
        given_up: Mapping[str, Reason],
        idle: Iterable[AttachedClient],
        why_idle: Mapping[str, str],
    ) -> Closed:
        """The ledger if the round ended now.

        Args:
            counted: client to the staleness and the weight of its update.
            given_up: clients whose task or update will never count, and why.
            idle: attached clients; those without a task are told in the ledger, too.
            why_idle: why, for clients of which that is known.
        """
        ledger = []
        for client, entry in self._entries.items():
            change: dict[str, object] | None = {}
            if client in counted:
                staleness, weight = counted[client]
                change = {"staleness": staleness, "weight": weight}
            elif client in given_up:
                state = LedgerState.REFUSED if entry.state is LedgerState.UPDATED else LedgerState.LATE
                change = {"state": state, "reason": given_up[client], "updated_at": time.time()}
            elif not entry.state.final or (entry.state is LedgerState.UPDATED and self._trains(client)):
                change = None
            if change is not None:
                ledger.append(entry.model_copy(update=change) if change else entry)
        ended = frozenset(entry.client for entry in ledger)
        ledger += [self._passes_on(entry) for client, entry in self._entries.items() if client not in ended]
        ledger += [_idle(client, why_idle) for client in idle if client.client not in self._entries]
        return Closed(tuple(sorted(ledger, key=lambda entry: entry.client)), ended)

    def _trains(self, client: str) -> bool:
        return self._kinds.get(client) is TaskKind.TRAIN

    def _passes_on(self, entry: LedgerEntry) -> LedgerEntry:
        """What this round's ledger says of a task that will be in a later one's."""
        if entry.state.final:
            why = "its update came after the sums of this round were made, and counts in the next one"
        else:
            why = f"it works on, from the model of round {entry.base_index}; its update will count when it comes"
        return LedgerEntry(
            client=entry.client,
            combiner=entry.combiner,
            state=LedgerState.NOT_SELECTED,
            reason=Reason(code="passes_on", message=why),
            base_index=entry.base_index,
        )

    def end(self, closed: Closed, models: Mapping[int, TrailEntry]) -> None:
        """The ledger stays like that, as far as it is seen, until another attempt begins.

        Args:
            models: index of each round whose model is still worked on, to that model's entry.
        """
        self._models, self._closed = models, closed
        self.change(ledger=closed.ledger)

    def leave(self, ended: frozenset[str]) -> tuple[dict[str, LedgerEntry], dict[str, TaskKind]]:
        """(entries, kinds of tasks) of what passes on; this round forgets them."""
        entries = {client: entry for client, entry in self._entries.items() if client not in ended}
        kinds = {client: self._kinds[client] for client in entries}
        self._entries = {}
        return entries, kinds

    def validated(
        self, ledger: Sequence[LedgerEntry], head: TrailEntry
    ) -> Iterable[tuple[TrailEntry, Sequence[LedgerEntry]]]:
        """Each client validated the model that it started from."""
        for index, model in self._models.items():
            yield model, [entry for entry in ledger if entry.base_index == index]

    def release_earlier(self) -> None:
        """Nothing: what earlier rounds left at the combiners is still worked on."""

    def settle(self, entry: TrailEntry) -> None:
        """As `RoundRun.settle`: what did not end in the round passes on."""
        ledger = []
        parts = {part.client: (model, part) for model in entry.combiner_models for part in model.contributions}
        for before in self.ledger:
            model, part = parts.get(before.client, (None, None))
            # With a rule that goes by earlier updates, what counts may be one from before the task.
            if model is not None and part is not None and before.base_index == _base_of(model, part):
                ledger.append(before.model_copy(update=self._counted(model, part)))
            elif not before.state.final or (before.state is LedgerState.UPDATED and before.base_index is not None):
                ledger.append(self._passes_on(before))
            else:
                ledger.append(before)
        self._entries = {}
        self.change(ledger=tuple(ledger))
        super().settle(entry)

    def _counted(self, model: CombinerModel, part: Contribution) -> dict[str, object]:
        """What the ledger says of an update that is in that combiner model."""
        base_index = _base_of(model, part)
        staleness = self.record.name.index - (base_index or 0)
        discounts = model.base_index is not None
        discount = cast(CarryingScheduler, self._scheduler).discount(staleness) if discounts else 1.0
        return {
            "state": LedgerState.UPDATED,
            "update_id": part.update_id,
            "reason": None,
            "base_index": base_index,
            "staleness": staleness,
            "weight": part.weight * discount,
        }


def _base_of(model: CombinerModel, part: Contribution) -> int | None:
    """Index of the round whose model an update in that combiner model was made from."""
    return part.base_index if model.base_index is None else model.base_index


def _idle(client: AttachedClient, why: Mapping[str, str]) -> LedgerEntry:
    usual = "as many clients work as the plan lets work at the same time"
    if TaskKind.TRAIN not in client.kinds:
        reason = Reason(code="not_able", message="the client does not train")
    else:
        reason = Reason(code="not_in_cohort", message=why.get(client.client, usual))
    return LedgerEntry(client=client.client, combiner=client.combiner, state=LedgerState.NOT_SELECTED, reason=reason)
