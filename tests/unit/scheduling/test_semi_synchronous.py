"""The semi-synchronous scheduler fills the same time with each client's steps, and says what it went by."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.plan.check import check_plan
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, InvalidSettings
from fedn.protocol.rounds import StepBudgets
from fedn.protocol.tasks import RoundName, UpdateMetadata
from fedn.scheduling.base import Progress, Verdict, get_scheduler
from fedn.scheduling.semi_synchronous import MAX_STEPS

NAME = RoundName(session="s", index=0, attempt=0, epoch=1)


def said(client: str, ms_per_step: float, ms_per_epoch: float) -> UpdateMetadata:
    return UpdateMetadata(
        task_id="t", client=client, round=NAME, ms_per_step=ms_per_step, ms_per_epoch=ms_per_epoch, num_examples=1
    )


def scheduler(**options: object):
    return get_scheduler("semi_synchronous", options)


FAST, SLOW = said("fast", 1.0, 40.0), said("slow", 5.0, 100.0)
HISTORY = {"fast": FAST, "slow": SLOW}


def steps(budgets: StepBudgets | None) -> dict[str, int]:
    return {} if budgets is None else budgets.steps


def test_the_first_round_leaves_the_steps_to_the_learners():
    assert scheduler().budgets(["fast", "slow"], {}, None) is None


def test_a_lambda_counts_epochs_of_the_slowest_client_and_need_not_be_whole():
    for factor, expected in ((1, (100, 20)), (2.0, (200, 40)), (0.5, (50, 10)), (0.013, (2, 1))):
        budgets = scheduler(**{"lambda": factor}).budgets(["fast", "slow"], HISTORY, None)
        assert steps(budgets) == {"fast": expected[0], "slow": expected[1]}
        assert (budgets.window_ms, budgets.slowest) == (pytest.approx(factor * 100.0), "slow")
        assert budgets.clients["fast"].ms_per_step == 1.0


def test_only_clients_of_the_round_are_waited_for():
    assert steps(scheduler().budgets(["fast"], HISTORY, None)) == {"fast": 40}


def test_a_client_without_history_makes_its_own_epochs():
    assert steps(scheduler().budgets(["fast", "new", "slow"], HISTORY, None)) == {"fast": 100, "slow": 20}


@pytest.mark.parametrize("times", [(0.0, 5.0), (5.0, 0.0), (math.inf, 5.0), (5.0, math.inf)])
def test_times_that_are_none_are_no_history(times):
    assert scheduler().budgets(["a"], {"a": said("a", *times)}, None) is None


def test_with_recompute_budgets_follow_the_latest_times_and_without_they_stay():
    slower = {"fast": said("fast", 2.0, 80.0), "slow": said("slow", 10.0, 200.0)}
    first = scheduler().budgets(["fast", "slow"], HISTORY, None)
    assert steps(scheduler().budgets(["fast", "slow"], slower, first)) == {"fast": 100, "slow": 20}
    other = {"fast": said("fast", 4.0, 80.0), "slow": SLOW}
    assert steps(scheduler().budgets(["fast", "slow"], other, first)) == {"fast": 25, "slow": 20}
    assert steps(scheduler(recompute=False).budgets(["fast", "slow"], other, first)) == {"fast": 100, "slow": 20}


def test_without_recompute_a_late_client_fills_the_first_window():
    first = scheduler(recompute=False).budgets(["fast", "slow"], HISTORY, None)
    history = {**HISTORY, "late": said("late", 10.0, 10_000.0)}
    later = scheduler(recompute=False).budgets(["fast", "late"], history, first)
    assert steps(later) == {"fast": 100, "late": 10}
    assert (later.window_ms, later.slowest) == (100.0, "slow")


@given(
    factor=st.floats(1e-3, 1e3),
    times=st.dictionaries(
        st.text("abc", min_size=1), st.tuples(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9)), min_size=1, max_size=5
    ),
)
def test_no_client_works_longer_than_the_window_but_for_its_last_step(factor, times):
    history = {client: said(client, *pair) for client, pair in times.items()}
    budgets = scheduler(**{"lambda": factor}).budgets(sorted(times), history, None)
    window = factor * max(epoch for _, epoch in times.values())
    assert budgets.window_ms == pytest.approx(window)
    for client, budget in budgets.clients.items():
        step = times[client][0]
        assert budget.steps >= 1
        assert (budget.steps - 1) * step <= window * (1 + 1e-9)
        assert budget.steps == MAX_STEPS or budget.steps * step >= window * (1 - 1e-9)


def test_it_closes_a_round_as_the_synchronous_one_does():
    def verdict(updated: int, open_: int) -> Verdict:
        return scheduler().verdict(Progress(updated=updated, open=open_, pending=open_, required=2, selected=3))

    assert [verdict(2, 1), verdict(3, 0), verdict(1, 0)] == [Verdict.WAIT, Verdict.COMMIT, Verdict.RETRY]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"lambda": 0}, "lambda"),
        ({"lambda": "2"}, "lambda"),
        ({"recompute": 1}, "recompute"),
        ({"factor": 1}, "factor"),
    ],
)
def test_options_are_checked_by_the_name_that_the_plan_gives_them(options, field):
    with pytest.raises(InvalidInput) as caught:
        get_scheduler("semi_synchronous", options)
    assert caught.value.where["field"] == f"scheduler.options.{field}"


def test_a_run_that_shall_repeat_to_the_bit_does_not_go_by_measured_times():
    with pytest.raises(InvalidSettings, match="measured times"):
        check_plan(SessionPlan(scheduler="semi_synchronous", deterministic=True))
    check_plan(SessionPlan(scheduler={"name": "semi_synchronous", "options": {"lambda": 2}}))
