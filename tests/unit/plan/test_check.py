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


def test_a_rule_over_all_clients_says_what_of_the_plan_it_makes_nothing_of():
    krum = {"name": "krum", "options": {"scope": "global", "byzantine": 2}}
    found = faults(rule=krum, reducer_mean="plain", keep_combiner_models=True, scaling_factor="NumParticipants")
    assert set(found) == {"reducer_mean", "keep_combiner_models", "clients_required", "scaling_factor"}
    assert "7" in found["clients_required"]
    inside = {"name": "krum", "options": {"scope": "combiner", "byzantine": 2}}
    check_plan(SessionPlan(rule=inside, reducer_mean="plain", scaling_factor="NumParticipants"))


def test_rules_that_compare_value_by_value_refuse_updates_that_leave_values_out():
    sparse = ["delta", {"name": "topk", "options": {"fraction": 0.1}}]
    for name, options in (("median", {}), ("trimmed_mean", {"trim": 0.1})):
        rule = {"name": name, "options": {"scope": "global", **options}}
        assert "topk" in faults(rule=rule, update_chain=sparse)["update_chain"]
        check_plan(SessionPlan(rule=rule, update_chain=["delta", "int8"]))
    for rule in ("fedavg", {"name": "geometric_median", "options": {"scope": "global"}}):
        check_plan(SessionPlan(rule=rule, update_chain=sparse))


def test_a_forest_is_nothing_to_round_subtract_or_step_along():
    found = faults(
        rule="forest",
        server_optimizer="adam",
        update_chain=["delta", "zstd"],
        model_chain=["float16"],
        clients_required=1,
    )
    assert set(found) == {"server_optimizer", "update_chain", "model_chain"}
    check_plan(SessionPlan(rule="forest", update_chain=["zstd"], model_chain=["zstd"]))
    assert set(faults(rule="forest", reducer_mean="plain", keep_combiner_models=True)) == {
        "reducer_mean",
        "keep_combiner_models",
    }


def test_an_optimizer_at_combiners_needs_means_of_their_own():
    krum = {"name": "krum", "options": {"scope": "global", "byzantine": 0}}
    for rule in ("fednova", krum, "fedrec"):
        assert (
            "over all clients" in faults(rule=rule, combiner_optimizer="adam", clients_required=9)["combiner_optimizer"]
        )
    assert "forest" in faults(rule="forest", combiner_optimizer="adam")["combiner_optimizer"]
    assert "several base models" in faults(scheduler="asynchronous", combiner_optimizer="adam")["combiner_optimizer"]
    assert set(faults(scheduler="asynchronous", rule="scaffold")) == {"rule"}
    assert "one object" in faults(combiner_optimizer="sgd", keep_combiner_models=True)["keep_combiner_models"]
    for rule in ("fedavg", "norm_clipping", "scaffold", {**krum, "options": {"scope": "combiner", "byzantine": 0}}):
        choice = {"name": rule, "options": {"max_norm": 1.0}} if rule == "norm_clipping" else rule
        check_plan(SessionPlan(rule=choice, combiner_optimizer="adam", server_optimizer="sgd"))


def test_no_codec_is_given_to_a_rule_that_carries_state_beside_the_model():
    found = faults(rule="scaffold", update_chain=["zstd"], model_chain=["float16"], keep_combiner_models=True)
    assert "control_variate" in found["update_chain"] and "add up over the rounds" in found["update_chain"]
    assert "add up over the rounds" in found["model_chain"] and "one object" in found["keep_combiner_models"]


def test_a_fault_of_an_optimizer_is_told_of_the_tier_that_it_is_for():
    found = faults(
        combiner_optimizer={"name": "sgd", "options": {"rate": 1}},
        server_optimizer={"name": "adam", "options": {"tau": 0, "beta_1": 7}},
    )
    assert set(found) == {
        "combiner_optimizer.options.rate",
        "server_optimizer.options.tau",
        "server_optimizer.options.beta_1",
    }


def test_asynchronous_commits_of_latest_models_have_no_stale_shares():
    check_plan(SessionPlan(rule="fedrec", scheduler={"name": "asynchronous", "options": {"arrivals": 2}}))
    given = {"arrivals": 2, "staleness": {"name": "constant"}, "learning_rate": 1.0}
    found = faults(rule="fedrec", scheduler={"name": "asynchronous", "options": given})
    assert set(found) == {"scheduler.options.staleness", "scheduler.options.learning_rate"}
    assert "Leave staleness out" in found["scheduler.options.staleness"]
    assert set(faults(rule="fednova", scheduler="asynchronous")) == {"rule"}


def test_a_rule_that_takes_updates_out_of_its_sums_again_needs_exact_sums_and_their_values():
    assert set(faults(rule="fedrec", sum_dtype="float32")) == {"sum_dtype"}
    assert check_plan(SessionPlan(rule="fedrec", update_chain=["delta", "int8", "zstd"])).rule.name == "fedrec"
