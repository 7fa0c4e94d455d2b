"""A running session: round after round until its plan is fulfilled, it is stopped, or it cannot go on."""

import logging
import time
from dataclasses import replace

from fedn.protocol.errors import Conflict, FednError, Unavailable
from fedn.protocol.rest import as_json
from fedn.protocol.rounds import Reason, RoundKind, RoundState
from fedn.protocol.tasks import TaskKind
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.attempt import AttemptResult
from fedn.reducer.engine.commit import record_validations
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.global_model import GlobalModel, global_model, read_state, round_metrics, rule_of
from fedn.reducer.engine.past import Past
from fedn.reducer.engine.records import SESSIONS, RoundRecord, SessionRecord, SessionState, load_round
from fedn.reducer.engine.round_run import RoundRun
from fedn.reducer.engine.training import Training
from fedn.scheduling.base import get_scheduler
from fedn.scheduling.selection.base import get_selector
from fedn.stores.base import Put

log = logging.getLogger(__name__)

_SHOWN_ROUNDS = 3
"""Rounds that are shown as they are now, not as they were written down: one that ends and the next one among them."""
PREDICTIONS = "predictions"


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
            await self._end(SessionState.FINISHED, None)

    async def stop(self) -> None:
        """After `run` was cancelled because somebody wants the session to stop."""
        await self._end(SessionState.STOPPED, None)

    async def _end(self, state: SessionState, error: Reason | None) -> None:
        self._context.place({})
        for run in list(self.rounds.values()):
            await run.cancel()
            if run.record.kind is RoundKind.TRAIN and run.record.state is RoundState.COMMITTED:
                done = run.record.name.index + 1
                if done > self.record.rounds_done:
                    self.record = self.record.model_copy(update={"rounds_done": done, "model_id": run.record.model_id})
        # Told when it is written: who sees the end may start the next session at once.
        ended = self.record.model_copy(update={"state": state, "error": error, "ended_at": time.time()})
        await self._context.store(lambda: self._context.state.put(SESSIONS, ended.id, ended.document()))
        self.record = ended
        self._context.events.publish(f"session_{state}", session=self.record.id, reason=error.message if error else "")

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
        if first < self._plan.rounds:
            await self._remember(first)
            training = Training(
                self._plan,
                self._context,
                new_round=self._new_round,
                left=await self._left_of(first, first + 1),
                on_commit=self._note_commit,
            )
            head = await training.run(first, head, await self._base_of(head))
        if self._plan.validate_models:
            await self._ask(RoundKind.VALIDATE, self._plan.rounds, head)

    async def _remember(self, first: int) -> None:
        """Reads what is known of the rounds before this one, where the selector goes by it."""
        if first and self._selector.uses_past:
            session, state = self.record.id, self._context.state
            await self._context.store(lambda: self._past.read(state, session, first))

    async def _left_of(self, *indexes: int) -> dict[int, RoundRecord]:
        """What is written down of rounds that are not committed: the next one may have begun with the one before."""
        session, state = self.record.id, self._context.state
        found = await self._context.store(lambda: {index: load_round(state, session, index) for index in indexes})
        return {index: record for index, record in found.items() if record is not None}

    async def _base_of(self, entry: TrailEntry) -> GlobalModel:
        spec = await self._context.store_model(lambda: self._context.catalog.model_spec(entry.model_id))
        model = global_model(entry.model_id, spec, rule_of(self._plan))
        if self._plan.server_optimizer is None or not entry.state_id:
            return model
        state = await self._context.store_model(lambda: read_state(self._context.models, entry.state_id))
        return replace(model, state=state, state_id=entry.state_id)

    def _note_commit(self, entry: TrailEntry) -> None:
        assert entry.round is not None  # of a round
        changes = {"rounds_done": entry.round + 1, "model_id": entry.model_id}
        record = self.record = self.record.model_copy(update=changes)
        self._context.note(f"session {record.id}", lambda: [Put(SESSIONS, record.id, record.document())])

    async def _settle(self, head: TrailEntry, index: int) -> None:
        """A reducer process that ended right after the commit left the round's record open."""
        run = self._new_round(RoundKind.TRAIN, index)
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
        self.rounds.pop(index, None)
        while len(self.rounds) >= _SHOWN_ROUNDS:
            del self.rounds[next(iter(self.rounds))]
        run = RoundRun(
            self.record.id, index, kind, self._plan, self._scheduler, self._context, self._past, self._selector
        )
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
            record_validations(run, result, entry, self._context)
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
