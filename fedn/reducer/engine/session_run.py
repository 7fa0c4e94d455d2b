"""A running session: round after round until its plan is fulfilled, it is stopped, or it cannot go on."""

import asyncio
import logging
import time

from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import Conflict, FednError, Unavailable
from fedn.protocol.rest import as_json
from fedn.protocol.rounds import Reason, RoundKind, RoundState
from fedn.protocol.tasks import TaskKind, UpdateMetadata
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.attempt import AttemptResult
from fedn.reducer.engine.commit import commit_round, record_validations
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.global_model import GlobalModel, read_shared_spec, round_metrics
from fedn.reducer.engine.records import SESSIONS, RoundRecord, SessionRecord, SessionState
from fedn.reducer.engine.round_run import RoundRun
from fedn.scheduling.base import get_scheduler

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
"""Between attempts at a round, doubling: what just failed often needs a moment."""
_INTERRUPTED = {RoundState.RUNNING, RoundState.AGGREGATING}
PREDICTIONS = "predictions"


class SessionRun:
    """See the module. Belongs to the engine's loop; `record` and `round` may be read from any thread."""

    def __init__(self, record: SessionRecord, context: EngineContext) -> None:
        self.record = record
        self.round: RoundRun | None = None
        """The round that runs, or the last one that did."""
        self._context = context
        self._plan = record.plan
        self._scheduler = get_scheduler(record.plan.scheduler.name, record.plan.scheduler.options)
        self._history: dict[str, UpdateMetadata] = {}

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
        if self.round is not None:
            await self.round.cancel()
            last = self.round.record
            if last.kind is RoundKind.TRAIN and last.state is RoundState.COMMITTED:
                done = max(self.record.rounds_done, last.name.index + 1)
                self.record = self.record.model_copy(update={"rounds_done": done, "model_id": last.model_id})
        await self._save(state=state, error=error, ended_at=time.time())
        self._context.events.publish(f"session_{state}", session=self.record.id, reason=error.message if error else "")

    async def _save(self, **changes: object) -> None:
        record = self.record = self.record.model_copy(update=changes)
        await self._context.store(lambda: self._context.state.put(SESSIONS, record.id, record.document()))

    # Training

    async def _train(self) -> None:
        head = await self._starting_entry()
        model = await self._load(head.model_id)
        first = self.record.rounds_done
        if head.session == self.record.id and head.round is not None:
            first = head.round + 1
            await self._settle(head, head.round)
        await self._save(model_id=head.model_id, rounds_done=first)
        for index in range(first, self._plan.rounds):
            head, model = await self._train_round(index, head, model)
            await self._save(rounds_done=index + 1, model_id=head.model_id)
        if self._plan.validate_models:
            await self._ask(RoundKind.VALIDATE, self._plan.rounds, head)

    async def _settle(self, head: TrailEntry, index: int) -> None:
        """A reducer process that ended right after the commit left the round's record open."""
        run = self._new_round(RoundKind.TRAIN, index)
        earlier = await run.earlier()
        if earlier is not None:
            run.record = earlier
            if earlier.state is not RoundState.COMMITTED:
                await run.settle(head)

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
        return await self._context.store(lambda: self._context.catalog.add_seed(bytes(tensors)))

    async def _load(self, model_id: str) -> GlobalModel:
        shared = await self._context.objects.get(model_id, wire.OBJECT_KIND_MODEL)
        return GlobalModel(shared, read_shared_spec(shared))

    async def _train_round(self, index: int, head: TrailEntry, base: GlobalModel) -> tuple[TrailEntry, GlobalModel]:
        """Attempts until one is committed."""
        run = self._new_round(RoundKind.TRAIN, index)
        earlier = await run.earlier()
        number = 0 if earlier is None else earlier.name.attempt + 1
        last = number + self._plan.max_attempts
        running = earlier if earlier is not None and _is_running(earlier, base.model_id) else None
        because = Reason(code="not_tried", message="it was not tried")
        while number < last:
            if running is not None:
                log.info("round %s was running when the reducer ended: going on with it", running.name)
                result, running = await run.reattach(running), None
            else:
                result = await run.attempt(number, base.model_id)
                number += 1
            if result.retry_because is None:
                try:
                    return await commit_round(run, result, head, base, self._plan, self._context)
                except Conflict as error:
                    if error.code != "contributed_twice":
                        raise
                    because = Reason(code=error.code, message=str(error), fix=error.fix)
            else:
                because = result.retry_because
            await run.fail(because)
            log.warning("round %s came to nothing: %s", run.record.name, because.message)
            if number < last:
                tries = number - (last - self._plan.max_attempts)
                await asyncio.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (tries - 1)))  # a timer, for no event
        raise Unavailable(
            "round_failed",
            f"a round failed {self._plan.max_attempts} times, at last because {because.message}",
            fix="See the round's ledger for each client's reason, then resume the session.",
            where={"session": self.record.id, "round": index},
        )

    def _new_round(self, kind: RoundKind, index: int) -> RoundRun:
        self.round = RoundRun(self.record.id, index, kind, self._plan, self._scheduler, self._context, self._history)
        return self.round

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
            await run.fail(result.retry_because)
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
        await run.save()
        if entry is not None:
            record_validations(run, result, entry, self._context)
        await run.acknowledge()
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
                    self._context.models.put(entry.update_id, [tensors], len(tensors))
                    self._context.state.put(PREDICTIONS, f"{self.record.id}/{client}", document)


def _is_running(record: RoundRecord, base_model_id: str) -> bool:
    return record.kind is RoundKind.TRAIN and record.state in _INTERRUPTED and record.base_model_id == base_model_id
