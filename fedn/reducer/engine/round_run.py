"""One round from the search for clients to the record of its end: attempts, ledger, and what is written down of it."""

import time
from collections.abc import Iterable, Mapping, Sequence

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import NotFound
from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason, RoundKind, RoundState, StepBudgets
from fedn.protocol.tasks import RoundName, TaskKind
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.attempt import AttemptResult, RoundAttempt
from fedn.reducer.engine.carrier import Carrier
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.earlier import members_of
from fedn.reducer.engine.gathered import forwards
from fedn.reducer.engine.global_model import most_beside, rule_of
from fedn.reducer.engine.part import RoundPart
from fedn.reducer.engine.past import Past
from fedn.reducer.engine.records import RoundRecord, load_round, round_documents, spent_so_far
from fedn.reducer.engine.tasks import assign_tasks, round_spec
from fedn.reducer.engine.waiting import Waiting
from fedn.scheduling.base import Scheduler
from fedn.scheduling.selection.base import Cohort, Selector

_NO_STATES: Mapping[str, str] = {}
_ENDED = {RoundState.COMMITTED, RoundState.FAILED, RoundState.CANCELLED}


class RoundRun:
    """One round of a session. `record` and `ledger` may be read from any thread."""

    def __init__(
        self,
        session: str,
        index: int,
        kind: RoundKind,
        plan: SessionPlan,
        scheduler: Scheduler,
        context: EngineContext,
        past: Past,
        selector: Selector,
    ) -> None:
        self._plan = plan
        self._scheduler = scheduler
        self._context = context
        self._past = past
        self._waiting = Waiting(kind, plan, context, past, selector)
        self._attempt: RoundAttempt | None = None
        self._parts: dict[str, RoundPart] = {}
        self._before: RoundRecord | None = None
        """What an earlier process left of this round, until the first attempt of this one begins."""
        name = RoundName(session=session, index=index, attempt=0, epoch=context.epoch)
        self.record = RoundRecord(name=name, kind=kind, state=RoundState.WAITING, started_at=time.time())

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        return self._attempt.ledger if self._attempt is not None else self.record.ledger

    async def earlier(self) -> RoundRecord | None:
        """What an earlier attempt at this round, perhaps by another reducer process, left behind."""
        name = self.record.name
        found = await self._context.store(lambda: load_round(self._context.state, name.session, name.index))
        self._before = found
        return found

    async def attempt(
        self,
        number: int,
        base_model_id: str,
        carrier: Carrier | None = None,
        optimizer_states: Mapping[str, str] = _NO_STATES,
        *,
        fetches: bool = True,
        adopts: bool = False,
    ) -> AttemptResult:
        """A new attempt: waits for clients, chooses the cohort, writes the round down while it begins, runs it.

        Args:
            carrier: what brings the base model, where the rule has extra state.
            optimizer_states: combiner to the digest of its optimizer's state.
            fetches: whether a combiner model is fetched even where it is the only one; else `part` does it.
            adopts: whether to go on with an attempt that an earlier process started and did not come to write down. Who
                was asked is worked out again: a client that came or went meanwhile is late, or costs the attempt.
        """
        name = self.record.name.model_copy(update={"attempt": number})
        again = await self._open(name, base_model_id, carrier, optimizer_states, adopts=adopts)
        return await self._execute(again=again, fetches=fetches)

    async def reattach(self, record: RoundRecord, *, fetches: bool = True) -> AttemptResult:
        """Goes on with the attempt that another reducer process left running; the combiners tell its events again."""
        begun = tuple(
            LedgerEntry(client=e.client, combiner=e.combiner, task_id=e.task_id, state=LedgerState.SELECTED)
            if e.task_id
            else e
            for e in record.ledger
        )
        self._before = None
        self.record = record.model_copy(update={"state": RoundState.RUNNING, "ledger": begun})
        if record.kind is RoundKind.TRAIN:
            self._past.note_cohort(record.name.index, record.cohort)
            self._past.note_budgets(record.step_budgets)
        return await self._execute(again=True, fetches=fetches)

    def left_behind(self) -> RoundName | None:
        """The latest attempt at this round by another process that a combiner holds."""
        mine = (self.record.name.session, self.record.name.index)
        held = [
            name
            for combiner in self._context.linked()
            if (connection := self._context.link(combiner).connection) is not None
            for name in connection.rounds
            if (name.session, name.index) == mine and name.epoch < self._context.epoch
        ]
        return max(held, key=lambda name: (name.epoch, name.attempt), default=None)

    async def _open(
        self,
        name: RoundName,
        base_model_id: str,
        carrier: Carrier | None,
        optimizer_states: Mapping[str, str],
        *,
        adopts: bool,
    ) -> bool:
        """Decides who does what; whether that is an attempt which runs already."""
        plan, kind = self._plan, self.record.kind
        started = time.time()
        before, self._before = self._before or self.record.model_copy(update={"ledger": self.ledger}), None
        self._attempt = None
        self.record = RoundRecord(
            name=name,
            kind=kind,
            state=RoundState.WAITING,
            base_model_id=base_model_id,
            spent=spent_so_far(before),
            started_at=started,
        )
        chosen = await self._gather(name)
        cohort = chosen.clients
        held = self.left_behind() if adopts else None
        name = held or name
        budgets: StepBudgets | None = None
        if kind is RoundKind.TRAIN:
            self._past.note_cohort(name.index, cohort)
            budgets = self._scheduler.budgets(cohort, self._past.latest, self._past.first_budgets)
            self._past.note_budgets(budgets)
        attached = self._context.roster.snapshot()
        assignments, ledger = assign_tasks(
            plan,
            name,
            kind,
            base_model_id,
            cohort=cohort,
            attached=attached,
            budgets=budgets.steps if budgets is not None else {},
            left_out=chosen.left_out,
            carrier=carrier,
        )
        members = members_of(rule_of(plan), self._context) if kind is RoundKind.TRAIN else None
        for combiner in members or ():
            assignments.setdefault(combiner, ())
        now = time.time()
        self.record = self.record.model_copy(
            update={
                "name": name,
                "state": RoundState.RUNNING,
                "cohort": cohort,
                "assignments": assignments,
                "members": members,
                "step_budgets": budgets,
                "optimizer_states": dict(optimizer_states),
                "ledger": ledger,
                "instances": self._instances(assignments),
                "deadline_at": now + plan.round_timeout_s,
                "times_ms": {"waiting": (now - started) * 1e3},
            }
        )
        self.note()
        self._context.events.publish(
            "round_started",
            session=name.session,
            round=name.index,
            attempt=name.attempt,
            round_kind=str(kind),
            clients=len(cohort),
        )
        return held is not None

    def _instances(self, combiners: Iterable[str]) -> dict[str, str]:
        """The processes that will be told to start, as far as they are linked."""
        found = {combiner: self._context.link(combiner).connection for combiner in combiners}
        return {combiner: link.instance for combiner, link in found.items() if link is not None}

    async def _gather(self, name: RoundName) -> Cohort:
        return await self._waiting.gather(name)

    def _required(self) -> int:
        """The quorum of this round, in clients that do what the round is for."""
        match self.record.kind:
            case RoundKind.TRAIN if self._plan.deterministic:
                return len(self.record.cohort)
            case RoundKind.TRAIN:
                return self._plan.clients_required
            case RoundKind.VALIDATE:
                return 0
            case _:
                return 1

    async def _execute(self, *, again: bool, fetches: bool) -> AttemptResult:
        record = self.record
        try:
            links = {combiner: self._context.link(combiner) for combiner in record.assignments}
        except NotFound as error:  # removed since the round was written down
            gone = Reason(code=error.code, message=str(error), fix=error.fix)
            return AttemptResult((), record.ledger, gone, 0.0, 0.0)
        attempt = RoundAttempt(
            record,
            self._scheduler,
            required=self._required(),
            counts=TaskKind(record.kind.value),
            on_ledger=self._note_ledger,
            trained=frozenset(self._past.latest),
        )
        self._attempt = attempt
        forwarded = record.kind is RoundKind.TRAIN and forwards(rule_of(self._plan))
        folder = self._context.spool if forwarded else None
        self._parts = {
            combiner: RoundPart(
                links[combiner],
                round_spec(
                    self._plan,
                    record.name,
                    tasks,
                    max(1.0, record.deadline_at - time.time()),
                    self._scheduler.required if record.kind is RoundKind.TRAIN else (),
                    None if record.members is None else record.members.get(combiner, ()),
                    record.optimizer_states.get(combiner, ""),
                ),
                self._context.objects,
                max_model_bytes=self._context.max_model_bytes * most_beside(self._plan),
                on_ledger=attempt.note,
                on_instance=self.note_instance,
                # Not known: the other process ended before the combiner answered. StartRound is the same, asked again.
                instance=record.instances.get(combiner) if again else None,
                fetches=fetches or len(record.assignments) > 1,
                forwarded_to=folder,
            )
            for combiner, tasks in record.assignments.items()
        }
        result = await attempt.run(self._parts)
        self.record = self.record.model_copy(update={"ledger": result.ledger})
        return result

    def _note_ledger(self, entry: LedgerEntry) -> None:
        if entry.metadata is not None and self.record.kind is RoundKind.TRAIN:
            self._past.latest[entry.client] = entry.metadata
        self._context.events.publish(
            "ledger_changed",
            session=self.record.name.session,
            round=self.record.name.index,
            client=entry.client,
            combiner=entry.combiner,
            state=str(entry.state),
            reason=entry.reason.message if entry.reason else "",
        )

    def note_instance(self, combiner: str, instance: str) -> None:
        """Which process was told to start, for a reducer that comes back."""
        if self.record.instances.get(combiner) != instance:
            self.change(instances={**self.record.instances, combiner: instance})
            self.note()

    def part(self, combiner: str) -> RoundPart:
        """A combiner's part in the latest attempt."""
        return self._parts[combiner]

    def change(self, **changes: object) -> None:
        self.record = self.record.model_copy(update=changes)

    def fail(self, reason: Reason) -> None:
        """This attempt came to nothing."""
        self._give_up(RoundState.FAILED, reason, "the reducer gave this attempt up")
        name = self.record.name
        self._context.events.publish(
            "round_failed", session=name.session, round=name.index, attempt=name.attempt, reason=reason.message
        )

    def withdraw(self, reason: Reason) -> None:
        """The model that the round started from will not become the global model."""
        if self.record.state not in _ENDED:
            self._give_up(RoundState.CANCELLED, reason, reason.message)

    async def cancel(self) -> None:
        """The session was stopped, or failed, while the round ran. One that is in the trail already stays committed."""
        if self.record.state in _ENDED:
            return
        # Behind the commit of this round, if one is under way.
        head = await self._context.store_model(self._context.trail.head)
        if head is not None and (head.session, head.round) == (self.record.name.session, self.record.name.index):
            self.settle(head)
        else:
            self._give_up(RoundState.CANCELLED, self.record.error, "the session ended")

    def _give_up(self, state: RoundState, error: Reason | None, why: str) -> None:
        self.change(state=state, error=error, ledger=self.ledger, ended_at=time.time())
        self.note()
        parts, self._parts = self._parts, {}
        for part in parts.values():
            part.cancel(why)

    def settle(self, entry: TrailEntry) -> None:
        """The round is in the trail, and its record does not say so: its end is written down as the entry tells it."""
        self.change(
            state=RoundState.COMMITTED,
            ledger=settled_ledger(self.ledger, entry),
            combiner_models=entry.combiner_models,
            model_id=entry.model_id,
            metrics=dict(entry.metrics),
            error=None,
            ended_at=entry.time,
        )
        self.note()
        self.acknowledge()

    def acknowledge(self) -> None:
        """The round is durable: the combiners may forget it, and so may we what they sent."""
        parts, self._parts = self._parts, {}
        for part in parts.values():
            part.acknowledge()

    @property
    def task_kinds(self) -> dict[str, TaskKind]:
        """Client to the kind of its task, of those in the ledger."""
        return self.record.task_kinds

    def validated(
        self, ledger: Sequence[LedgerEntry], head: TrailEntry
    ) -> Iterable[tuple[TrailEntry, Sequence[LedgerEntry]]]:
        """Which model's entry the clients' validations belong to."""
        return [(head, ledger)]

    def release_earlier(self) -> None:
        """Lets the combiners forget what an earlier reducer process left there of this session's committed rounds."""
        mine = self.record.name
        for combiner in self._context.linked():
            connection = self._context.link(combiner).connection
            if connection is not None:
                connection.release(lambda held: held.session == mine.session and held.index <= mine.index)

    def note(self) -> None:
        """Writes the round down as it is now, soon."""
        record = self.record
        self._context.note(f"round {record.key}", lambda: round_documents(record))


def settled_ledger(ledger: Sequence[LedgerEntry], entry: TrailEntry) -> tuple[LedgerEntry, ...]:
    """A ledger that was left open, closed by what the trail says of the round: who contributed, and nobody else."""
    updates = {part.client: part.update_id for model in entry.combiner_models for part in model.contributions}
    unknown = Reason(code="no_answer", message="the round ended before it was written down what the client answered")
    closed = []
    for before in ledger:
        change: dict[str, object] = {}
        # Who was not asked, or ended otherwise, counts by an update of an earlier round.
        answered = before.state is LedgerState.UPDATED or not before.state.final
        if before.client in updates and answered:
            change = {"state": LedgerState.UPDATED, "update_id": updates[before.client], "reason": None}
        elif not before.state.final:
            change = {"state": LedgerState.LATE, "reason": unknown, "updated_at": entry.time}
        closed.append(before.model_copy(update=change))
    return tuple(closed)
