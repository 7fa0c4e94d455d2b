"""Who is asked what in a round."""

from fedn.plan.session import SessionPlan
from fedn.protocol.rounds import LedgerState, RoundKind
from fedn.protocol.tasks import RoundName, TaskKind
from fedn.reducer.engine.roster import AttachedClient
from fedn.reducer.engine.tasks import assign_tasks, round_spec

NAME = RoundName(session="s", index=3, attempt=1, epoch=2)
BOTH = frozenset({TaskKind.TRAIN, TaskKind.VALIDATE})


def attached(name, combiner, kinds=BOTH):
    return AttachedClient(name, combiner, kinds, {}, 0.0)


CLIENTS = [
    attached("b", "c2"),
    attached("a", "c1"),
    attached("spare", "c1"),
    attached("eyes", "c2", frozenset({TaskKind.VALIDATE})),
    attached("hands", "c2", frozenset({TaskKind.TRAIN})),
]


def assign(plan, kind=RoundKind.TRAIN, cohort=("a", "b", "hands"), base="blake3:" + "1" * 64, name=NAME):
    return assign_tasks(
        plan, name, kind, base, cohort=cohort, attached=CLIENTS, budgets={"a": 7}, left_out={"spare": "why not"}
    )


def test_every_attached_client_is_in_the_ledger_with_its_reason():
    _, ledger = assign(SessionPlan())
    states = {entry.client: (entry.state, entry.reason.code if entry.reason else None) for entry in ledger}
    assert states == {
        "a": (LedgerState.SELECTED, None),
        "b": (LedgerState.SELECTED, None),
        "hands": (LedgerState.SELECTED, None),
        "eyes": (LedgerState.SELECTED, None),
        "spare": (LedgerState.NOT_SELECTED, "not_in_cohort"),
    }


def test_the_ledger_says_why_the_selection_left_a_client_out():
    _, ledger = assign(SessionPlan())
    assert next(entry for entry in ledger if entry.client == "spare").reason.message == "why not"


def test_tasks_go_to_the_combiner_of_their_client():
    assignments, _ = assign(SessionPlan(parameters={"epochs": 2}, seed=5, helper="sklearn", package_id="p"))
    assert list(assignments) == ["c1", "c2"]
    (task,) = assignments["c1"]
    assert (task.client, task.kind, task.step_budget, task.validate_incoming) == ("a", TaskKind.TRAIN, 7, True)
    assert task.parameters == {"seed": 5, "epochs": 2}
    assert (task.helper, task.package_id) == ("sklearn", "p")
    assert {task.client: (task.kind, task.validate_incoming) for task in assignments["c2"]} == {
        "b": (TaskKind.TRAIN, True),
        "eyes": (TaskKind.VALIDATE, False),
        "hands": (TaskKind.TRAIN, False),
    }


def test_without_validation_nobody_validates():
    assignments, ledger = assign(SessionPlan(validate=False))
    assert not any(task.validate_incoming for tasks in assignments.values() for task in tasks)
    assert next(entry for entry in ledger if entry.client == "eyes").reason.code == "not_able"


def test_a_task_keeps_its_id_over_attempts_but_not_over_bases():
    def ids(**changes):
        return {task.task_id for tasks in assign(SessionPlan(), **changes)[0].values() for task in tasks}

    again = NAME.model_copy(update={"attempt": 2, "epoch": 9})
    assert ids(name=again) == ids()
    assert not ids(base="blake3:" + "2" * 64) & ids()
    assert not ids(kind=RoundKind.VALIDATE, cohort=("a",)) & ids()


def test_the_combiner_is_told_the_plans_limits():
    plan = SessionPlan(upload_grace_s=3, disconnect_grace_s=4, sum_dtype="float32", deterministic=True)
    spec = round_spec(plan, NAME, (), 12.5, {"num_steps"})
    assert (spec.deadline_s, spec.upload_grace_s, spec.disconnect_grace_s) == (12.5, 3, 4)
    assert (spec.sum_dtype, spec.deterministic, spec.rule) == ("float32", True, "fedavg")
    assert spec.required_metadata == {"num_steps": "the scheduler synchronous"}
