"""A running session: round after round until its plan is fulfilled, it is stopped, or it cannot go on."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import Conflict, FednError, InvalidInput, Unavailable
from fedn.protocol.rest import as_json
from fedn.protocol.rounds import LedgerEntry, Reason, RoundKind, RoundState
from fedn.protocol.tasks import RoundName, TaskKind, mean_by_examples
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.asynchronous import AsynchronousTraining
from fedn.reducer.engine.attempt import AttemptResult
from fedn.reducer.engine.carrier import carry
from fedn.reducer.engine.commit import record_validations
from fedn.reducer.engine.connection import LinkDown
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.global_model import (
    GlobalModel,
    global_model,
    incoming_validations,
    round_metrics,
    rule_of,
    starting_states,
)
from fedn.reducer.engine.open_round import OpenRound
from fedn.reducer.engine.past import Past
from fedn.reducer.engine.records import SESSIONS, RoundRecord, SessionRecord, SessionState, load_round
from fedn.reducer.engine.round_run import RoundRun
from fedn.reducer.engine.states import States, read_states
from fedn.reducer.engine.training import Training
from fedn.scheduling.base import CarryingScheduler, get_scheduler
from fedn.scheduling.selection.base import get_selector
from fedn.stores.base import Put

Run = TypeVar("Run", bound=RoundRun)
log = logging.getLogger(__name__)

_SHOWN_ROUNDS = 3
"""Rounds that are shown as they are now, not as they were written down: one that ends and the next one among them."""
PREDICTIONS = "predictions"
_ALL_DONE = Reason(code="all_rounds_done", message="all rounds are done")


class SessionRun:
    """See the module. Belongs to the engine's loop; `record` and `rounds` may be read from any thread."""

    def __init__(self, record: SessionRecord, context: EngineContext) -> None:
        self.record = record
        self.rounds: dict[int, RoundRun] = {}
        """The latest rounds by their index: those that run, and some that did."""
        self._context = context
        self._plan = record.plan
        self._scheduler = get_scheduler(record.plan.scheduler.name, record.plan.scheduler.options)
        self._selector = get_selector(record.plan.selection.name, record.plan.selection.options)
        self._past = Past()
        self._because: Reason | None = None
        """Why the training ended before all rounds were done."""

    async def run(self) -> None:
        """To the end. Cancelled, it leaves the session as it is: stopped by `stop`, or for the next reducer process."""
        try:
            if self.record.kind is RoundKind.TRAIN:
                await self._train()
            else:
                await self._ask_about(self.record.kind, self._plan.model_id)
        except FednError as error:
            log.warning("session %s failed: %s", self.record.id, error)
            await self._end(SessionState.FAILED, Reason(code=error.code, message=str(error), fix=error.fix))
        else:
            self._let_updates_go()
            await self._end(SessionState.FINISHED, None, self._because or _ALL_DONE)

    def _let_updates_go(self) -> None:
        """What combiners kept for this session is of no use to another; a combiner that is away learns it from that."""
        for combiner in self._context.linked() if rule_of(self._plan).lineage else ():
            connection = self._context.link(combiner).connection
            if connection is not None:
                with contextlib.suppress(LinkDown):
                    connection.forget_session(self.record.id)

    async def stop(self) -> None:
        """After `run` was cancelled because somebody wants the session to stop."""
        await self._end(SessionState.STOPPED, None)

    async def _end(self, state: SessionState, error: Reason | None, because: Reason | None = None) -> None:
        await self._close_rounds()
        # Told when it is written: who sees the end may start the next session at once.
        changes = {"state": state, "error": error, "ended_because": because, "ended_at": time.time()}
        ended = self.record.model_copy(update=changes)
        await self._context.store(lambda: self._context.state.put(SESSIONS, ended.id, ended.document()))
        self.record = ended
        why = error or because
        self._context.events.publish(f"session_{state}", session=self.record.id, reason=why.message if why else "")

    async def _close_rounds(self) -> None:
        """What runs is given up; what is in the trail already counts."""
        self._context.place({})
        for run in list(self.rounds.values()):
            await run.cancel()
            if run.record.kind is RoundKind.TRAIN and run.record.state is RoundState.COMMITTED:
                done = run.record.name.index + 1
                if done > self.record.rounds_done:
                    self.record = self.record.model_copy(update={"rounds_done": done, "model_id": run.record.model_id})

    async def _save(self, **changes: object) -> None:
        record = self.record = self.record.model_copy(update=changes)
        await self._context.store(lambda: self._context.state.put(SESSIONS, record.id, record.document()))

    # Training

    async def _train(self) -> None:
        head = await self._starting_entry()
        first = self.record.rounds_done
        if head.session == self.record.id and head.round is not None:
            first = head.round + 1
            await self._settle(head, head.round)
        await self._save(model_id=head.model_id, rounds_done=first)
        if first < self._plan.rounds and not await self._was_enough(first):
            await self._remember(first)
            training = await self._training(first)
            head = await self._in_time(training.run(first, head, await self._base_of(head))) or head
        if self._plan.validate_models and self.record.rounds_done:
            await self._ask(RoundKind.VALIDATE, self._plan.rounds, head)

    async def _training(self, first: int) -> Training | AsynchronousTraining:
        if self._scheduler.carries_over:
            return AsynchronousTraining(
                self.record.id,
                self._plan,
                cast(CarryingScheduler, self._scheduler),
                self._selector,
                self._context,
                self._past,
                new_round=self._open_round,
                on_commit=self._note_commit,
                is_enough=self._is_enough,
            )
        return Training(
            self._plan,
            self._context,
            new_round=self._new_round,
            left=await self._left_of(first, first + 1),
            on_commit=self._note_commit,
            is_enough=lambda record: self._is_enough(record.name, record.ledger, record.task_kinds),
        )

    async def _in_time(self, training: Coroutine[Any, Any, TrailEntry]) -> TrailEntry | None:
        """The entry of the last round; that of the last one that was done where the session's time was over before."""
        limit_s = self._plan.stop_after_s
        left_s = None if limit_s is None else max(0.0, self.record.created_at + limit_s - time.time())
        try:
            async with asyncio.timeout(left_s) as clock:
                return await training
        except TimeoutError:
            if not clock.expired():
                raise
        self._because = Reason(code="duration_reached", message=f"its {limit_s:g} s were over")
        await self._close_rounds()
        return await self._context.store_model(self._context.trail.head)

    async def _was_enough(self, first: int) -> bool:
        """Whether the training had ended already, with the round before this one, when another process ended."""
        if not first or self._plan.stop_at is None:
            return False
        before = await self._left_of(first - 1)
        return any(self._is_enough(left.name, left.ledger, left.task_kinds) for left in before.values())

    def _is_enough(self, name: RoundName, ledger: Sequence[LedgerEntry], kinds: Mapping[str, TaskKind]) -> bool:
        """Whether the model that clients started from is good enough for the plan to end with this round.

        InvalidInput (`metric_missing`) where clients do not say how good it is.
        """
        cutoff, self._because = self._plan.stop_at, None
        if cutoff is None:
            return False
        found = incoming_validations(ledger, kinds)
        known = {name for _, _, metrics in found for name in metrics}
        if cutoff.metric not in known and (found or not name.index):
            raise _metric_missing(cutoff.metric, known, name)
        means = mean_by_examples((examples, metrics) for _, examples, metrics in found)
        if not cutoff.reached_by(means):
            return False
        message = f"round {name.index + 1} started from a model with {cutoff.metric} {means[cutoff.metric]:.6g}"
        self._because = Reason(code="metric_reached", message=f"{message}, and the plan asks for {cutoff}")
        return True

    async def _remember(self, first: int) -> None:
        """Reads what is known of the rounds before this one, where the selector or the scheduler goes by it."""
        if first and (self._selector.uses_past or self._scheduler.uses_past):
            session, state = self.record.id, self._context.state
            await self._context.store(lambda: self._past.read(state, session, first))

    async def _left_of(self, *indexes: int) -> dict[int, RoundRecord]:
        """What is written down of rounds that are not committed: the next one may have begun with the one before."""
        session, state = self.record.id, self._context.state
        found = await self._context.store(lambda: {index: load_round(state, session, index) for index in indexes})
        return {index: record for index, record in found.items() if record is not None}

    async def _base_of(self, entry: TrailEntry) -> GlobalModel:
        spec = await self._context.store_model(lambda: self._context.catalog.model_spec(entry.model_id))
        context, plan, rule = self._context, self._plan, rule_of(self._plan)
        model = global_model(entry.model_id, spec, rule)
        if plan.server_optimizer is None and plan.combiner_optimizer is None and not rule.extras:
            return model
        kept: States = {}
        if entry.state_id:
            kept = await context.store_model(lambda: read_states(context.models, entry.state_id))
        goes_on = entry.session == self.record.id
        states = starting_states(kept, spec, plan, context.algorithm, goes_on=goes_on)
        if not rule.extras:
            return replace(model, states=states)
        shared = await context.objects.get(entry.model_id, wire.OBJECT_KIND_MODEL)
        carrier = await asyncio.to_thread(carry, shared, rule, states, context.algorithm)
        context.objects.hold(carrier.shared)
        return replace(model, states=states, carrier=carrier)

    def _note_commit(self, entry: TrailEntry) -> None:
        assert entry.round is not None  # of a round
        changes = {"rounds_done": entry.round + 1, "model_id": entry.model_id}
        record = self.record = self.record.model_copy(update=changes)
        self._context.note(f"session {record.id}", lambda: [Put(SESSIONS, record.id, record.document())])

    async def _settle(self, head: TrailEntry, index: int) -> None:
        """A reducer process that ended right after the commit left the round's record open."""
        run = self._open_round(index) if self._scheduler.carries_over else self._new_round(RoundKind.TRAIN, index)
        earlier = await run.earlier()
        if earlier is not None:
            run.record = earlier
            if earlier.state is not RoundState.COMMITTED:
                run.settle(head)

    async def _starting_entry(self) -> TrailEntry:
        """The trail's head, after what the plan says about the model to start from was done."""
        trail = self._context.trail
        head = await self._context.store(trail.head)
        if head is None:
            head = await self._seed_from_client()
        wanted = self._plan.model_id
        fresh = self.record.rounds_done == 0 and head.session != self.record.id
        if wanted is not None and wanted != head.model_id and fresh:
            head = await self._context.store(lambda: trail.append_rollback(wanted))
        return head

    async def _seed_from_client(self) -> TrailEntry:
        if not self._plan.seed_from_client:
            raise Conflict(
                "no_seed_model",
                "the federation has no model to start from",
                fix="Upload one with `fedn model seed FILE`, or set seed_from_client in the plan.",
                where={"session": self.record.id},
            )
        attempts = self._plan.max_attempts
        while True:
            try:
                result = await self._ask(RoundKind.INIT, self._plan.rounds + 1, None)
                break
            except Unavailable as error:
                attempts -= 1
                if error.code != "round_failed" or not attempts:
                    raise
        tensors = next(part.tensors for part in result.parts if part.tensors is not None)
        return await self._context.store(lambda: self._context.catalog.add_seed(tensors.copy()))

    def _new_round(self, kind: RoundKind, index: int) -> RoundRun:
        """A round that is shown as live from now on."""
        return self._shown(RoundRun, kind, index)

    def _open_round(self, index: int) -> OpenRound:
        """As `_new_round`, of a session whose tasks go on over commits."""
        return self._shown(OpenRound, RoundKind.TRAIN, index)

    def _shown(self, make: type[Run], kind: RoundKind, index: int) -> Run:
        self.rounds.pop(index, None)
        while len(self.rounds) >= _SHOWN_ROUNDS:
            del self.rounds[next(iter(self.rounds))]
        run = make(self.record.id, index, kind, self._plan, self._scheduler, self._context, self._past, self._selector)
        self.rounds[index] = run
        return run

    # Rounds that make no combiner model

    async def _ask_about(self, kind: RoundKind, model_id: str | None) -> None:
        """A session of one round: clients validate or predict with a model of the trail."""
        context = self._context
        wanted = model_id
        head = await context.store(
            context.trail.head if wanted is None else lambda: context.trail.entry_of(str(wanted))
        )
        if head is None:
            raise Conflict("no_seed_model", "there is no model yet", fix="Upload one with `fedn model seed FILE`.")
        result = await self._ask(kind, 0, head)
        await self._save(rounds_done=1, model_id=head.model_id)
        if kind is RoundKind.PREDICT:
            await context.store(lambda: self._keep_predictions(result))

    async def _ask(self, kind: RoundKind, index: int, entry: TrailEntry | None) -> AttemptResult:
        """One attempt at a round of that kind, about the entry's model; what came of it is written down."""
        base = entry.model_id if entry is not None else ""
        run = self._new_round(kind, index)
        earlier = await run.earlier()
        result = await run.attempt(0 if earlier is None else earlier.name.attempt + 1, base)
        if result.retry_because is not None:
            run.fail(result.retry_because)
            raise Unavailable(
                "round_failed",
                f"no client could {kind}: {result.retry_because.message}",
                fix="See the round's ledger for each client's reason.",
                where={"session": self.record.id, "round": index},
            )
        run.change(
            state=RoundState.COMMITTED,
            model_id=base,
            metrics=round_metrics(result.ledger, run.record.task_kinds, TaskKind(kind.value)),
            ended_at=time.time(),
        )
        run.note()
        if entry is not None:
            record_validations(run, result.ledger, entry, self._context)
        run.acknowledge()
        return result

    def _keep_predictions(self, result: AttemptResult) -> None:
        """The predictions' tensors go into the model store; who predicted what, into a document."""
        for part in result.parts:
            for client, tensors in part.predictions.items():
                entry = next(entry for entry in result.ledger if entry.client == client)
                document = {
                    "session": self.record.id,
                    "client": client,
                    "object_id": entry.update_id,
                    "size_bytes": len(tensors),
                    "metrics": as_json(entry.metadata.metrics) if entry.metadata else {},
                }
                with self._context.catalog.changing:
                    self._context.models.put(entry.update_id, tensors.views(), len(tensors))
                    self._context.state.put(PREDICTIONS, f"{self.record.id}/{client}", document)


def _metric_missing(metric: str, known: Collection[str], name: RoundName) -> InvalidInput:
    what = f"they say {', '.join(sorted(known))}" if known else "no client that took part validates models"
    return InvalidInput(
        "metric_missing",
        f"the session is to end by the metric {metric}, which no client's validation says: {what}",
        fix="Start a session whose stop_at names one of the clients' metrics, or let their code say this one.",
        where={"session": name.session, "round": name.index, "field": "stop_at.metric"},
    )
