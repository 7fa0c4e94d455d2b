"""The rounds of an asynchronous session: a commit whenever enough updates are in, while clients work on.

What a commit makes of them is the rule's: a step by their differences (FedBuff), or the mean of all clients' latest
models; see `HandsUp`.

A round of index r is what happens from commit r − 1 to commit r. Tasks that begin in it start from the model of commit
r − 1, and their updates count in commit r or a later one, with the staleness that this makes.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError, NotFound
from fedn.protocol.rounds import HandsUp, LedgerEntry, LedgerState, Reason, RoundKind, RoundState
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.attempt import AttemptResult
from fedn.reducer.engine.buffer_part import BufferPart
from fedn.reducer.engine.commit import Finished, RoundSpoiled, bytes_of, commit_round, finish_with
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.difference_flights import DifferenceFlights
from fedn.reducer.engine.earlier import check_kept, note_earlier
from fedn.reducer.engine.flights import Base, Flight, Flights
from fedn.reducer.engine.global_model import GlobalModel, aggregate, check_overlap, rule_of
from fedn.reducer.engine.mean_flights import MeanFlights
from fedn.reducer.engine.open_round import TOO_STALE, Closed, OpenRound
from fedn.reducer.engine.part import PartResult
from fedn.reducer.engine.past import Past
from fedn.reducer.engine.records import RoundRecord, load_round
from fedn.reducer.engine.roster import AttachedClient
from fedn.reducer.engine.setbacks import Setbacks
from fedn.reducer.engine.tasks import assign_tasks, round_spec
from fedn.scheduling.base import CarryingScheduler, Progress, Verdict
from fedn.scheduling.selection.base import Draw, Selector

_FLIGHTS: Mapping[HandsUp | None, type[Flights]] = {
    HandsUp.DIFFERENCE: DifferenceFlights,
    HandsUp.MEAN: MeanFlights,
}
_UNDER_WAY = {RoundState.WAITING, RoundState.RUNNING, RoundState.AGGREGATING}


class AsynchronousTraining:
    """See the module. Belongs to the engine's loop.

    Args:
        new_round: makes the round of an index, to be shown as live from now on.
        on_commit: told of each entry.
        is_enough: says of a round, and of those in it who started from the same model, whether no other shall follow.
    """

    def __init__(
        self,
        session: str,
        plan: SessionPlan,
        scheduler: CarryingScheduler,
        selector: Selector,
        context: EngineContext,
        past: Past,
        *,
        new_round: Callable[[int], OpenRound],
        on_commit: Callable[[TrailEntry], None],
        is_enough: Callable[[RoundName, Sequence[LedgerEntry], Mapping[str, TaskKind]], bool],
    ) -> None:
        self._session = session
        self._plan = plan
        self._scheduler = scheduler
        self._selector = selector
        self._context = context
        self._past = past
        self._new_round = new_round
        self._on_commit = on_commit
        self._is_enough = is_enough
        self._rounds = plan.rounds
        """Fewer than the plan's once the model is good enough."""
        self._changed = asyncio.Event()
        kind = _FLIGHTS[rule_of(plan).hands_up]
        self._flights = kind(self._make_part, self._changed, scheduler, context)
        self._setbacks = Setbacks(plan.max_attempts)
        self._why_idle: Mapping[str, str] = {}

    async def run(self, first: int, head: TrailEntry, model: GlobalModel) -> TrailEntry:
        """All rounds from index `first` on, or until there are enough; the entry of the last one.

        Args:
            head: the trail's last entry.
            model: its model.

        Raises:
            Unavailable: (`round_failed`) a round failed too often; (`too_few_clients`).
            Conflict: the trail has another head.
        """
        unsubscribe = self._context.roster.on_attach(lambda client, combiner: self._changed.set())
        try:
            if head.session == self._session:
                self._flights.remember(head.combiner_models)
            await self._take_up(first, head)
            index = first
            while index < self._rounds:
                head, model = await self._round(head, model)
                self._on_commit(head)
                index += 1
            return head
        finally:
            unsubscribe()
            self._flights.end("the session is over")

    async def _round(self, head: TrailEntry, model: GlobalModel) -> tuple[TrailEntry, GlobalModel]:
        """Attempts at the round that is open, until one is committed: its entry, and its model."""
        run = self._flights.round
        while True:
            base = self._flights.base(run.record.name, head)
            try:
                finished, closed = await self._attempt(run, base, model)
            except RoundSpoiled as error:
                await self._fail(run, base, error.reason)
            else:
                break
        entry = await commit_round(finished, head, self._plan, self._context)
        self._pass_on(run, closed)
        return entry, finished.model

    async def _attempt(self, run: OpenRound, base: Base, model: GlobalModel) -> tuple[Finished, Closed]:
        """A model of enough updates, not durable yet. RoundSpoiled where there will not be enough, or no model."""
        if not self._flights.training and not self._flights.arrived:
            await run.gather()
        run.begin()
        started = time.monotonic()
        while True:
            await self._until_enough(run, base)
            collecting = time.monotonic()
            await self._flights.collect(base)
            taken = self._flights.results
            if self._verdict() is Verdict.COMMIT and (self._flights.handed or not taken):
                break
        if not taken:
            raise RoundSpoiled(
                "sums_missing", "combiners told of updates, and handed up no sums", fix="See their logs."
            )
        run.change(state=RoundState.AGGREGATING)
        closed = self._close(run, taken)
        run.end(closed, self._flights.models)
        result = AttemptResult(
            parts=taken,
            ledger=closed.ledger,
            retry_because=None,
            training_ms=(collecting - started) * 1e3,
            collecting_ms=(time.monotonic() - collecting) * 1e3,
        )
        shares, form = self._flights.shares(base.index), self._flights.form
        try:
            check_overlap(result.parts)
            from_base = form == "delta" or self._plan.server_optimizer is not None
            data = await bytes_of(model, self._context) if from_base else None
            work = partial(aggregate, taken, model, self._plan, self._context.algorithm, data, shares, form=form)
            return await finish_with(run, result, model, self._plan, self._context, work), closed
        except FednError as error:
            spoiled = RoundSpoiled.by(error)
            self._flights.spoil(spoiled.reason)
            raise spoiled from error

    async def _until_enough(self, run: OpenRound, base: Base) -> None:
        """Asks clients as they become free, until the scheduler wants a commit. RoundSpoiled (`quorum_missed`)."""
        while True:
            self._changed.clear()
            self._flights.check()
            self._ask(run, base)
            verdict = self._verdict()
            if verdict is Verdict.COMMIT:
                return
            if verdict is Verdict.RETRY:
                required = max(1, self._plan.clients_required)
                why = f"{self._flights.arrived} updates are in and no more can come; {required} are required"
                raise RoundSpoiled("quorum_missed", why)
            await self._changed.wait()

    def _verdict(self) -> Verdict:
        training = self._flights.training
        return self._scheduler.verdict(
            Progress(
                updated=self._flights.arrived,
                open=training,
                pending=self._flights.flying,
                required=self._plan.clients_required,
                selected=training + self._flights.arrived,
            )
        )

    # Who is asked

    def _ask(self, run: OpenRound, base: Base) -> None:
        """Gives the latest model to clients that are free, as many as may work."""
        linked = set(self._context.linked())
        free = [
            client
            for client in self._context.roster.snapshot()
            if client.client not in run.entries
            and client.combiner in linked
            and self._flights.takes(base, client.combiner)
        ]
        check_kept(rule_of(self._plan), sorted({client.combiner for client in free}), self._context)
        chosen = self._choose([client for client in free if TaskKind.TRAIN in client.kinds], base.index)
        asked = [client for client in free if client.client in chosen or TaskKind.TRAIN not in client.kinds]
        assignments, ledger = assign_tasks(
            self._plan,
            base.name,
            RoundKind.TRAIN,
            base.entry.model_id,
            cohort=chosen,
            attached=asked,
            budgets={},
            left_out={},
        )
        if assignments:
            run.ask(assignments, ledger)
            self._flights.ask(base, assignments)

    def _choose(self, free: Sequence[AttachedClient], index: int) -> Sequence[str]:
        limit = self._scheduler.concurrency
        places = None if limit is None else max(0, limit - self._flights.training)
        if places == 0 or not free:
            return ()
        candidates = self._past.candidates({client.client: client for client in free}, index)
        cohort = self._selector.select(candidates, Draw(self._plan.seed, index), places)
        self._why_idle = cohort.left_out
        return cohort.clients

    def _make_part(
        self,
        base: Base,
        combiner: str,
        tasks: Sequence[TaskSpec],
        instance: str | None = None,
        accounted: frozenset[str] = frozenset(),
    ) -> BufferPart:
        plan = self._plan
        # Whose earlier updates count, each hand-up says.
        members = () if rule_of(plan).lineage else None
        spec = round_spec(plan, base.name, tuple(tasks), plan.round_timeout_s, self._scheduler.required, members)
        run = self._flights.round
        return self._flights.part_kind(
            self._context.link(combiner),
            spec.model_copy(update={"buffered": True}),
            self._context.objects,
            max_model_bytes=self._context.max_model_bytes,
            on_ledger=lambda entry: self._flights.note(base, entry),
            on_instance=run.note_instance,
            on_over=lambda part, error: self._flights.over(base, part, error),
            instance=instance,
            accounted=accounted,
        )

    # What becomes of a round

    def _close(self, run: OpenRound, taken: Sequence[PartResult]) -> Closed:
        """The round's ledger when what was taken is committed."""
        index = run.record.name.index
        self._rounds = index + 1 if self._was_good(run) else self._plan.rounds
        last = index + 1 >= self._rounds
        if last:
            given_up = dict.fromkeys(self._flights.clients, _session_over())
        else:
            stale = [base_index for base_index in self._flights.models if self._is_stale(base_index, index + 1)]
            given_up = {client: self._too_stale(at) for at in stale for client in self._flights.outdated(at)}
        closed = run.closed(self._flights.counted(index), given_up, self._context.roster.snapshot(), self._why_idle)
        return self._with_earlier(closed, taken)

    def _with_earlier(self, closed: Closed, taken: Sequence[PartResult]) -> Closed:
        """Says of whom an earlier update counts, where the rule goes by such."""
        if not rule_of(self._plan).lineage:
            return closed
        changed = {entry.client: entry for entry in note_earlier(closed.ledger, taken, self._past.latest)}
        return replace(closed, ledger=tuple(changed.get(entry.client, entry) for entry in closed.ledger))

    def _was_good(self, run: OpenRound) -> bool:
        """Whether the latest model of which clients in the round say how good it is, is good enough to end with."""
        ledger = [entry for entry in run.ledger if entry.base_index is not None and entry.metadata is not None]
        latest = max((entry.base_index for entry in ledger if entry.base_index is not None), default=None)
        of_it = [entry for entry in ledger if entry.base_index == latest]
        return self._is_enough(run.record.name, of_it, run.task_kinds)

    def _is_stale(self, base_index: int, index: int) -> bool:
        """Whether updates from that model would be too old for the commit of that index."""
        return index - base_index > self._scheduler.max_staleness

    def _too_stale(self, base_index: int) -> Reason:
        limit = self._scheduler.max_staleness
        return Reason(
            code=TOO_STALE,
            message=f"the client started from the model of round {base_index}, more than {limit} commits ago",
            fix="Raise the scheduler's max_staleness, or its arrivals, where slow clients shall count.",
        )

    def _pass_on(self, run: OpenRound, closed: Closed) -> None:
        """The round is committed: the next one begins with what is under way."""
        index = run.record.name.index + 1
        self._flights.settle()
        for base_index in list(self._flights.models):
            if self._is_stale(base_index, index):
                self._flights.expire(base_index, self._too_stale(base_index).message)
        self._flights.release(index)
        entries, kinds = run.leave(closed.ended)
        if index < self._rounds:
            following = self._flights.round = self._new_round(index)
            following.open(self._first_attempt(index), run.record.model_id)
            following.carry(entries, kinds)

    async def _fail(self, run: OpenRound, base: Base, reason: Reason) -> None:
        """The attempt came to nothing: another one begins. What works on older models works on."""
        given_up = dict.fromkeys(self._flights.clients_of(base.index), reason)
        self._flights.give_up(base.index, reason.message)
        closed = run.closed({}, given_up, self._context.roster.snapshot(), self._why_idle)
        run.end(closed, {})
        run.carry(*run.leave(closed.ended))
        await self._setbacks.after(run, reason)
        run.open(_next_attempt(run.record.name, self._context.epoch), base.entry.model_id)

    def _first_attempt(self, index: int) -> RoundName:
        return RoundName(session=self._session, index=index, attempt=0, epoch=self._context.epoch)

    # What another reducer process left

    async def _take_up(self, first: int, head: TrailEntry) -> None:
        """Opens the round of that index, and finds the tasks again that are under way, if any are."""
        run = self._flights.round = self._new_round(first)
        earlier = await run.earlier()
        if earlier is None:
            run.open(self._first_attempt(first), head.model_id)
            await run.gather()
            # Combiners may hold it already, if the reducer ended before that was written down.
            run.open(run.left_behind() or run.record.name, head.model_id)
        elif earlier.state in _UNDER_WAY:
            run.go_on(earlier)
        else:  # with the session, all that was under way was given up
            run.open(_next_attempt(earlier.name, self._context.epoch), head.model_id)
            return
        before = range(max(0, first - self._scheduler.max_staleness), first)
        records = await self._context.store(
            lambda: [load_round(self._context.state, self._session, at) for at in before]
        )
        known = [record for record in records if record is not None]
        done = {
            (entry.client, entry.base_index)
            for record in known
            for entry in record.ledger
            if entry.task_id and entry.state.final
        }
        for record in known:
            entry = await self._context.store(partial(self._context.trail.entry_of, record.base_model_id))
            self._find(run, record, entry, done)
        if earlier is not None:
            self._find(run, earlier, head, done)

    def _find(self, run: OpenRound, record: RoundRecord, entry: TrailEntry, done: Set[tuple[str, int | None]]) -> None:
        """Goes on with the tasks of a round that are not done with."""
        index = record.name.index
        base = self._flights.base(record.name, entry)
        for combiner, tasks in record.assignments.items():
            left = [task for task in tasks if (task.client, index) not in done]
            instance = record.instances.get(combiner)
            if not left or instance is None:
                continue
            try:
                accounted = frozenset(task.client for task in tasks) - {task.client for task in left}
                part = self._make_part(base, combiner, tasks, instance, accounted)
            except NotFound:  # the combiner was removed; its clients are asked anew
                continue
            for task in left:
                self._flights.find(task.client, Flight(base, combiner, task.kind))
                under_way = LedgerEntry(
                    client=task.client,
                    combiner=combiner,
                    task_id=task.task_id,
                    state=LedgerState.SELECTED,
                    base_index=index,
                )
                run.carry({task.client: under_way}, {task.client: task.kind})
            self._flights.watch(base, part)
        self._flights.release(run.record.name.index)


def _next_attempt(name: RoundName, epoch: int) -> RoundName:
    return name.model_copy(update={"attempt": name.attempt + 1, "epoch": epoch})


def _session_over() -> Reason:
    return Reason(code="session_over", message="the session ended before the update could count")
