"""A plan is checked as a whole: what it names, and what does not fit together."""

import pytest

from fedn.plan.check import check_plan
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidSettings


def faults(**plan: object) -> dict[str, str]:
    """Field to what is said of it."""
    with pytest.raises(InvalidSettings) as caught:
        check_plan(SessionPlan.model_validate(plan))
    return {problem.where["field"]: f"{problem.message} {problem.fix}" for problem in caught.value.problems}


def test_a_plan_of_defaults_is_good_and_options_may_be_given_by_name_alone():
    assert check_plan(SessionPlan()) == SessionPlan()
    assert SessionPlan.model_validate({"selection": "all"}) == SessionPlan()


def test_every_fault_is_told_with_its_field():
    found = faults(
        rule={"name": "fedavg", "options": {"speed": 1}},
        scheduler="sinchronous",
        selection={"name": "fraction", "options": {"fraction": 3, "size": 1}},
        update_chain=["top"],
    )
    assert set(found) == {
        "rule.options.speed",
        "scheduler",
        "selection.options.fraction",
        "selection.options.size",
        "update_chain.0",
    }
    assert "synchronous" in found["scheduler"]


def test_a_selection_that_can_never_reach_the_quorum_is_refused():
    found = faults(clients_required=3, selection={"name": "count", "options": {"count": 2}})
    assert "3 updates are required" in found["selection"]


def test_a_rule_over_all_clients_refuses_a_mean_that_counts_combiners():
    assert "fednova" in faults(rule="fednova", reducer_mean="plain")["reducer_mean"]
