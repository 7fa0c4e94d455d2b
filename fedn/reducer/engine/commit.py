"""The end of a round: its result becomes durable. The trail's insert is the commit; all else is told after it.

What the next round starts from is known before that (`finish_round`), so that it need not wait for the commit.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fedn.models.pieces import Pieces
from fedn.network.generated import common_pb2 as wire
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, NotFound
from fedn.protocol.rounds import LedgerEntry, Reason, RoundState
from fedn.protocol.tasks import RoundName, TaskKind, mean_by_examples
from fedn.protocol.trail import TrailEntry, ValidationRecord
from fedn.reducer.engine.arrival import ModelArrival
from fedn.reducer.engine.attempt import AttemptResult
from fedn.reducer.engine.carrier import population
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.gathered import looks_at_base
from fedn.reducer.engine.global_model import (
    Aggregated,
    GlobalModel,
    aggregate,
    check_overlap,
    incoming_validations,
    part_shares,
    passed_through,
    round_metrics,
    rule_of,
)
from fedn.reducer.engine.objects import Download, SharedObject
from fedn.reducer.engine.part import MAX_DAMAGES, PartLost
from fedn.reducer.engine.round_run import RoundRun
from fedn.reducer.engine.states import StatePart, States, combiner_part, index_of, of_combiners

_AT_ONCE_BYTES = 2 << 20
"""Combiner models that are smaller together are added up on the loop: a thread would take longer to begin."""


class RoundSpoiled(FednError):
    """No global model came of an attempt at a round; another attempt may do better."""

    @classmethod
    def by(cls, error: FednError) -> "RoundSpoiled":
        return cls(error.code, error.message, fix=error.fix, where=error.where)

    @property
    def reason(self) -> Reason:
        return Reason(code=self.code, message=str(self), fix=self.fix)


@dataclass(frozen=True)
class Finished:
    """A round that has its model, which is not durable yet."""

    run: RoundRun
    result: AttemptResult
    base: GlobalModel
    model: GlobalModel
    shared: SharedObject | None
    """The model's bytes; None where they are still at the combiner."""
    aggregation_ms: float
    settle: Callable[[], None]
    """To be called when the model is in the store, or will not come."""

    @property
    def name(self) -> RoundName:
        return self.run.record.name


async def finish_round(
    run: RoundRun, result: AttemptResult, base: GlobalModel, plan: SessionPlan, context: EngineContext
) -> Finished:
    """What the next round starts from. RoundSpoiled where there is no such thing."""
    run.change(state=RoundState.AGGREGATING)
    try:
        check_overlap(result.parts)
        elsewhere = [part.model for part in result.parts if part.has_model and part.tensors is None]
        if elsewhere:
            model = passed_through(elsewhere[0], base)
            return Finished(run, result, base, model, None, 0.0, context.objects.promise(model.model_id))
        shares = part_shares(result.parts, result.ledger, plan)
        from_base = plan.server_optimizer is not None or shares is not None or looks_at_base(rule_of(plan))
        base_model = await bytes_of(base, context) if from_base else None
        work = partial(
            aggregate,
            result.parts,
            base,
            plan,
            context.algorithm,
            base_model,
            shares,
            round_index=run.record.name.index,
            population=population(result.ledger, run.record.task_kinds),
        )
        return await finish_with(run, result, base, plan, context, work)
    except FednError as error:
        raise RoundSpoiled.by(error) from error


async def finish_with(
    run: RoundRun,
    result: AttemptResult,
    base: GlobalModel,
    plan: SessionPlan,
    context: EngineContext,
    work: Callable[[], Aggregated],
) -> Finished:
    """As `finish_round`, with the aggregation given; in a thread of its own where the models are large."""
    at_once = sum(part.model.size_bytes for part in result.parts) <= _AT_ONCE_BYTES
    made = work() if at_once else await asyncio.to_thread(work)
    if not plan.keep_combiner_models:
        result = replace(result, parts=tuple(replace(part, tensors=None) for part in result.parts))
    context.objects.add(made.shared)
    if made.model.carrier is not None:
        context.objects.hold(made.model.carrier.shared)
    model = replace(made.model, states=_of_known_combiners(made.model.states, context))
    # A combiner that was restarted asks for its state in the next round, which may begin before the commit.
    promises = [context.objects.promise(part.object_id) for part in of_combiners(model.states).values()]
    return Finished(run, result, base, model, made.shared, made.aggregation_ms, lambda: _settle_all(promises))


def _settle_all(promises: Sequence[Callable[[], None]]) -> None:
    for settle in promises:
        settle()


def _of_known_combiners(states: States, context: EngineContext) -> States:
    """Without what belongs to combiners that were removed from the federation."""
    gone = set()
    for combiner in of_combiners(states):
        try:
            context.link(combiner)
        except NotFound:
            gone.add(combiner_part(combiner))
    return {name: part for name, part in states.items() if name not in gone}


async def bytes_of(model: GlobalModel, context: EngineContext) -> Pieces:
    shared = await context.objects.get(model.model_id, wire.OBJECT_KIND_MODEL)
    return Pieces(tuple(shared.data()))


async def commit_round(finished: Finished, head: TrailEntry, plan: SessionPlan, context: EngineContext) -> TrailEntry:
    """Stores the model, appends to the trail, and lets the combiners forget the round; the new trail entry.

    Args:
        head: the entry of the model that the round started from; durable.

    Raises:
        RoundSpoiled: the model did not come, or must not become the global model.
        Conflict: the trail has another head, or the round already.
    """
    run, result = finished.run, finished.result
    metrics = round_metrics(result.ledger, run.task_kinds, TaskKind.TRAIN)
    started = time.perf_counter()

    index = index_of(finished.model.states, context.algorithm) if finished.model.states else None

    def append(store_models: Callable[[], None]) -> TrailEntry:
        with context.catalog.changing:
            store_models()
            return context.trail.append_round(
                session=finished.name.session,
                round=finished.name.index,
                model_id=finished.model.model_id,
                parent=head.model_id,
                plan_digest=plan.digest,
                combiner_models=tuple(part.model for part in result.parts if part.has_model),
                metrics=metrics,
                state_id="" if index is None else index.object_id,
            )

    fetching_ms = 0.0
    try:
        if finished.shared is None:
            entry, fetching_ms = await _fetch_and(append, finished, context)
        else:
            shared = finished.shared
            entry = await context.store_model(
                lambda: append(lambda: _put_models(shared, index, finished, plan, context))
            )
    finally:
        finished.settle()
    commit_ms = (time.perf_counter() - started) * 1e3 - fetching_ms
    _tell(finished, head, entry, metrics, {"collecting": fetching_ms, "commit": commit_ms}, context)
    return entry


async def _fetch_and(
    append: Callable[[Callable[[], None]], TrailEntry], finished: Finished, context: EngineContext
) -> tuple[TrailEntry, float]:
    """Brings the model from the combiner into the store and has its entry appended: (entry, milliseconds fetching)."""
    (model,) = (part.model for part in finished.result.parts if part.has_model)
    part = finished.run.part(model.combiner)
    started = time.perf_counter()
    for _ in range(MAX_DAMAGES):
        arrival = ModelArrival(model.model_id, finished.base.layout, context.models, context.submit_model)
        try:
            await part.fetch(Download(model.model_id, model.size_bytes, arrival))
            fetching_ms = (time.perf_counter() - started) * 1e3
            return await context.store_model(lambda arrival=arrival: append(arrival.keep)), fetching_ms  # type: ignore[misc]
        except (PartLost, InvalidInput) as error:
            raise RoundSpoiled.by(error) from error
        except IntegrityError as error:
            if error.code != "digest_mismatch":
                raise
            damage = error
        finally:
            arrival.drop()
    raise RoundSpoiled.by(damage)


def _put_models(
    shared: SharedObject, index: StatePart | None, finished: Finished, plan: SessionPlan, context: EngineContext
) -> None:
    context.models.put(shared.object_id, shared.data(), shared.size_bytes)
    kept = {part.object_id for part in finished.base.states.values()}
    states = [part for part in finished.model.states.values() if part.object_id not in kept]
    for state in states if index is None else [*states, index]:
        context.models.put(state.object_id, [memoryview(state.data)], len(state.data))
    for part in finished.result.parts:
        if plan.keep_combiner_models and part.tensors is not None:
            context.models.put(part.model.model_id, part.tensors.views(), len(part.tensors))


def _tell(
    finished: Finished,
    head: TrailEntry,
    entry: TrailEntry,
    metrics: dict[str, float],
    times_ms: dict[str, float],
    context: EngineContext,
) -> None:
    """The round is committed: writes its end down, and says so to the combiners and to everybody who watches."""
    run, result, ended = finished.run, finished.result, time.time()
    total_ms = (ended - run.record.started_at) * 1e3
    run.change(
        state=RoundState.COMMITTED,
        combiner_models=entry.combiner_models,
        model_id=entry.model_id,
        metrics=metrics,
        ended_at=ended,
        times_ms={
            **run.record.times_ms,
            "training": result.training_ms,
            "collecting": result.collecting_ms + times_ms["collecting"],
            "aggregation": finished.aggregation_ms,
            "commit": times_ms["commit"],
            "total": total_ms,
        },
    )
    run.acknowledge()
    run.release_earlier()
    run.note()
    for validated, ledger in run.validated(result.ledger, head):
        record_validations(run, ledger, validated, context)
    context.events.publish(
        "round_committed",
        session=entry.session,
        round=finished.name.index,
        model_id=entry.model_id,
        metrics=metrics,
        updates=sum(len(model.contributions) for model in entry.combiner_models),
        total_ms=total_ms,
    )


def record_validations(run: RoundRun, ledger: Sequence[LedgerEntry], entry: TrailEntry, context: EngineContext) -> None:
    """Appends what clients found of the model that the round started from, to that model's trail entry."""
    now = time.time()
    records = [
        ValidationRecord(
            federation=entry.federation,
            entry_hash=entry.hash,
            model_id=entry.model_id,
            session=run.record.name.session,
            client=client,
            metrics=metrics,
            num_examples=examples,
            time=now,
        )
        for client, examples, metrics in incoming_validations(ledger, run.task_kinds)
    ]
    if not records:
        return

    def write() -> None:
        context.trail.add_validations(records)
        context.events.publish(
            "validation_added",
            session=run.record.name.session,
            model_id=entry.model_id,
            index=entry.index,
            clients=len(records),
            metrics=mean_by_examples((record.num_examples, record.metrics) for record in records),
        )

    context.store_later(write)
