"""What cannot be done on ciphertext is refused in the plan, with a sentence for each."""

import pytest

from fedn.plan.check import check_plan
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidSettings

RULE = {"name": "secagg", "options": {"key_id": "sha256:" + "a" * 64}}

REFUSED = [
    ({"update_chain": ["zstd"]}, "update_chain", "codecs of updates are undone by servers"),
    ({"model_chain": ["float16"]}, "model_chain", "codecs of models are applied by servers"),
    ({"server_optimizer": {"name": "adam"}}, "server_optimizer", "computes with the mean"),
    ({"combiner_optimizer": {"name": "adam"}}, "combiner_optimizer", "which no server can read"),
    ({"sum_dtype": "float32"}, "sum_dtype", "not in floating point"),
    ({"deterministic": True}, "deterministic", "encryption is random"),
    ({"scheduler": "asynchronous"}, "scheduler", "weights of staleness"),
    ({"reducer_mean": "plain"}, "reducer_mean", "counts combiners"),
    ({"clients_requested": 101}, "clients_requested", "room for 100 clients"),
    ({"clients_required": 101}, "clients_required", "room for 100 clients"),
]


def faults(plan):
    with pytest.raises(InvalidSettings) as error:
        check_plan(SessionPlan.model_validate(plan))
    return {fault.where["field"]: fault.message for fault in error.value.problems}


@pytest.mark.parametrize(("plan", "field", "why"), REFUSED)
def test_each_is_refused_in_its_field_with_the_reason(plan, field, why):
    assert why in faults({"rule": RULE, **plan})[field]


def test_all_are_told_at_once():
    plan = {"rule": RULE, "update_chain": ["zstd"], "model_chain": ["float16"], "deterministic": True}
    assert set(faults(plan)) == {"update_chain", "model_chain", "deterministic"}


def test_the_rest_of_a_plan_is_free():
    plan = {
        "rule": RULE,
        "rounds": 3,
        "clients_required": 2,
        "clients_requested": 100,
        "scaling_factor": "NumParticipants",
        "selection": {"name": "fraction", "options": {"fraction": 0.5}},
        "keep_combiner_models": True,
        "seed_from_client": True,
    }
    assert check_plan(SessionPlan.model_validate(plan)).rule.name == "secagg"
