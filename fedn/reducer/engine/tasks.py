"""Who is asked what in a round, and by which combiner. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedn.plan.session import SessionPlan
from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason, RoundKind, RoundSpec
from fedn.protocol.tasks import Encryption, RoundName, TaskKind, TaskSpec
from fedn.reducer.engine.carrier import Carrier
from fedn.reducer.engine.global_model import rule_of
from fedn.reducer.engine.roster import AttachedClient


def assign_tasks(
    plan: SessionPlan,
    name: RoundName,
    kind: RoundKind,
    base_model_id: str,
    *,
    cohort: Sequence[str],
    attached: Sequence[AttachedClient],
    budgets: Mapping[str, int],
    left_out: Mapping[str, str],
    carrier: Carrier | None = None,
) -> tuple[dict[str, tuple[TaskSpec, ...]], tuple[LedgerEntry, ...]]:
    """(combiner to its tasks, ledger with every attached client) of a round.

    In a training round of a plan that validates, clients that train also validate the model that they start from, and
    clients that only validate get a task of that kind.

    Args:
        budgets: client to the steps that it is asked for; as many as its learner decides where it is not named.
        left_out: client to a sentence that says why it is not in the cohort.
        carrier: what brings the base model, where the plan's rule has extra state.
    """
    chosen = set(cohort)
    likes: dict[TaskKind, TaskSpec] = {}
    """What the tasks of a kind have in common, checked once."""

    def task_of(client: str, of: TaskKind, **changes: object) -> TaskSpec:
        like = likes.get(of)
        if like is None:
            like = likes[of] = _task(plan, name, of, base_model_id, carrier)
        if carrier is not None:
            changes["last_counted"] = carrier.counted.get(client)
        return like.model_copy(update={"task_id": like.task_id + client, "client": client, **changes})

    by_combiner: dict[str, list[TaskSpec]] = {}
    ledger = []
    for client in sorted(attached, key=lambda one: one.client):
        task = None
        if client.client in chosen:
            incoming = kind is RoundKind.TRAIN and plan.validate_models and TaskKind.VALIDATE in client.kinds
            task = task_of(
                client.client,
                TaskKind(kind.value),
                validate_incoming=incoming,
                step_budget=budgets.get(client.client),
            )
        elif _only_validates(plan, kind, client):
            task = task_of(client.client, TaskKind.VALIDATE)
        if task is not None:
            by_combiner.setdefault(client.combiner, []).append(task)
        ledger.append(_entry(client, task, kind, left_out))
    return {combiner: tuple(by_combiner[combiner]) for combiner in sorted(by_combiner)}, tuple(ledger)


def _only_validates(plan: SessionPlan, kind: RoundKind, client: AttachedClient) -> bool:
    return (
        kind is RoundKind.TRAIN
        and plan.validate_models
        and TaskKind.VALIDATE in client.kinds
        and TaskKind.TRAIN not in client.kinds
    )


def _task(plan: SessionPlan, name: RoundName, kind: TaskKind, base_model_id: str, carrier: Carrier | None) -> TaskSpec:
    """All that a task of this kind says but for the client, whose name follows in the task's id."""
    # The same for every attempt, so that a client answers a repeated round from its spool; another base is other work.
    work = "/".join((name.session, str(name.index), kind, base_model_id.rpartition(":")[2][:12], ""))
    return TaskSpec(
        task_id=work,
        client="",
        kind=kind,
        model_id=base_model_id,
        parameters=_parameters(plan),
        package_id=plan.package_id or "",
        helper=plan.helper,
        update_chain=plan.update_chain if kind is TaskKind.TRAIN else (),
        model_chain=plan.model_chain if base_model_id else (),
        encryption=_encryption(plan) if kind in {TaskKind.TRAIN, TaskKind.INIT} else None,
        input_id=carrier.shared.object_id if carrier is not None else "",
        extras=carrier.sections if carrier is not None else (),
    )


def _encryption(plan: SessionPlan) -> Encryption | None:
    scaling = plan.scaling_factor
    return rule_of(plan).encryption(scaling.name, scaling.options)


def _parameters(plan: SessionPlan) -> dict[str, Any]:
    return {"seed": plan.seed, **plan.parameters}


def _entry(client: AttachedClient, task: TaskSpec | None, kind: RoundKind, left_out: Mapping[str, str]) -> LedgerEntry:
    if task is not None:
        return LedgerEntry(
            client=client.client, combiner=client.combiner, task_id=task.task_id, state=LedgerState.SELECTED
        )
    if TaskKind(kind.value) in client.kinds:
        usual = "the plan asks for fewer clients than are attached"
        reason = Reason(code="not_in_cohort", message=left_out.get(client.client, usual))
    else:
        reason = Reason(code="not_able", message=f"the client does not {kind}")
    return LedgerEntry(client=client.client, combiner=client.combiner, state=LedgerState.NOT_SELECTED, reason=reason)


def round_spec(
    plan: SessionPlan,
    name: RoundName,
    tasks: tuple[TaskSpec, ...],
    deadline_s: float,
    required: Iterable[str],
    members: tuple[str, ...] | None = None,
    optimizer_state_id: str = "",
) -> RoundSpec:
    """What one combiner is told.

    Args:
        deadline_s: seconds from now.
        required: fields of an update's metadata that the scheduler needs.
        optimizer_state_id: of this combiner's optimizer; empty where it has none yet.
        members: clients whose earlier updates count there; None where the rule does not go by such.
    """
    trains = any(task.kind is TaskKind.TRAIN for task in tasks)
    optimizer = plan.combiner_optimizer if trains else None
    return RoundSpec(
        name=name,
        tasks=tasks,
        deadline_s=deadline_s,
        upload_grace_s=plan.upload_grace_s,
        disconnect_grace_s=plan.disconnect_grace_s,
        rule=plan.rule.name,
        rule_options=plan.rule.options,
        scaling_factor=plan.scaling_factor.name,
        scaling_options=plan.scaling_factor.options,
        sum_dtype=plan.sum_dtype,
        deterministic=plan.deterministic,
        members=members,
        combiner_optimizer=optimizer.name if optimizer is not None else "",
        combiner_optimizer_options=optimizer.options if optimizer is not None else {},
        optimizer_state_id=optimizer_state_id if optimizer is not None else "",
        required_metadata=dict.fromkeys(sorted(required), f"the scheduler {plan.scheduler.name}"),
    )
