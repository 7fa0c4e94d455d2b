"""The end of a round: its result becomes durable. The trail's insert is the commit; all else is told after it."""

import asyncio
import time

from fedn.plan.session import SessionPlan
from fedn.protocol.rounds import RoundState
from fedn.protocol.tasks import TaskKind, weighted_mean
from fedn.protocol.trail import TrailEntry, ValidationRecord
from fedn.reducer.engine.attempt import AttemptResult
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.global_model import (
    Aggregated,
    GlobalModel,
    aggregate,
    incoming_validations,
    round_metrics,
)
from fedn.reducer.engine.round_run import RoundRun


async def commit_round(
    run: RoundRun, result: AttemptResult, head: TrailEntry, base: GlobalModel, plan: SessionPlan, context: EngineContext
) -> tuple[TrailEntry, GlobalModel]:
    """Aggregates, stores the model, appends to the trail, and lets the combiners forget the round.

    Returns:
        The new trail entry and its model.

    Raises:
        Conflict: the combiner models overlap, or the trail has the round already.
    """
    run.change(state=RoundState.AGGREGATING)
    aggregated = await asyncio.to_thread(aggregate, result.parts, base.spec, plan, context.algorithm)
    metrics = round_metrics(result.ledger, run.record.task_kinds, TaskKind.TRAIN)
    started = time.perf_counter()
    entry = await context.store(lambda: _write(run, result, head, aggregated, metrics, plan, context))
    commit_ms = (time.perf_counter() - started) * 1e3
    context.objects.add(aggregated.model.shared)
    ended = time.time()
    run.change(
        state=RoundState.COMMITTED,
        combiner_models=entry.combiner_models,
        model_id=entry.model_id,
        metrics=metrics,
        ended_at=ended,
        times_ms={
            **run.record.times_ms,
            "training": result.training_ms,
            "collecting": result.collecting_ms,
            "aggregation": aggregated.aggregation_ms,
            "commit": commit_ms,
            "total": (ended - run.record.started_at) * 1e3,
        },
    )
    run.save_later()
    record_validations(run, result, head, context)
    await run.acknowledge()
    context.events.publish(
        "round_committed",
        session=entry.session,
        round=run.record.name.index,
        model_id=entry.model_id,
        metrics=metrics,
        updates=sum(len(model.contributions) for model in entry.combiner_models),
        total_ms=run.record.times_ms["total"],
    )
    return entry, aggregated.model


def _write(
    run: RoundRun,
    result: AttemptResult,
    head: TrailEntry,
    aggregated: Aggregated,
    metrics: dict[str, float],
    plan: SessionPlan,
    context: EngineContext,
) -> TrailEntry:
    with context.catalog.changing:
        context.models.put(aggregated.model.model_id, [aggregated.buffer], len(aggregated.buffer))
        for part in result.parts:
            if plan.keep_combiner_models and part.tensors is not None:
                context.models.put(part.model.model_id, [part.tensors], len(part.tensors))
        return context.trail.append_round(
            session=run.record.name.session,
            round=run.record.name.index,
            model_id=aggregated.model.model_id,
            parent=head.model_id,
            plan_digest=plan.digest,
            combiner_models=tuple(part.model for part in result.parts if part.tensors is not None),
            metrics=metrics,
        )


def record_validations(run: RoundRun, result: AttemptResult, entry: TrailEntry, context: EngineContext) -> None:
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
        for client, examples, metrics in incoming_validations(result.ledger, run.record.task_kinds)
    ]
    if not records:
        return

    def write() -> None:
        for record in records:
            context.trail.add_validation(record)
        context.events.publish(
            "validation_added",
            session=run.record.name.session,
            model_id=entry.model_id,
            index=entry.index,
            clients=len(records),
            metrics=weighted_metrics(records),
        )

    context.store_later(write)


def weighted_metrics(records: list[ValidationRecord]) -> dict[str, float]:
    """Mean of each metric by examples; each client counts the same where none says how many it has."""
    from_examples = any(record.num_examples for record in records)
    return weighted_mean([(record.num_examples if from_examples else 1, record.metrics) for record in records])
