"""The form that starts a session: what is typed becomes a plan, and each fault stands beside its field."""

import re

import pytest
from flask.testing import FlaskClient

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, InvalidSettings
from fedn.reducer.pages.plan_form import FIELDS, choices, faults_by_field, plan_from_form
from tests.unit.reducer.parts import ADMIN_SECRET, Parts

HTML = {"Accept": "text/html"}
SECURE = "https://localhost"


def test_every_field_is_one_of_the_plan_and_its_default_is_the_plans() -> None:
    known = {field.alias or name for name, field in SessionPlan.model_fields.items()}
    fields = [field for group in FIELDS for field in group.fields]
    assert {field.name for field in fields} - known == {"name", "more"}
    typed = {field.name: field.default for field in fields if field.kind in {"number", "decimal"}}
    typed = {name: value for name, value in typed.items() if value != "all"}
    assert SessionPlan.model_validate(plan_from_form(typed).plan) == SessionPlan()


def test_what_is_typed_becomes_a_plan() -> None:
    wanted = plan_from_form(
        {
            "name": " mine ",
            "rounds": "7",
            "clients_requested": "",
            "validate": "false",
            "deterministic": "true",
            "rule": "fedavg",
            "parameters": '{"epochs": 2}',
            "stop_after_s": "90",
            "stop_at": '{"metric": "loss", "cutoff": 0.1, "mode": "min"}',
            "more": '{"update_chain": ["zstd"], "rounds": 8}',
        }
    )
    plan = SessionPlan.model_validate(wanted.plan)
    assert wanted.name == "mine" and plan.parameters == {"epochs": 2} and plan.rule.name == "fedavg"
    assert (plan.rounds, plan.clients_requested, plan.validate_models, plan.deterministic) == (8, None, False, True)
    assert [codec.name for codec in plan.update_chain] == ["zstd"]
    assert plan.stop_after_s == 90 and str(plan.stop_at) == "loss <= 0.1"


def test_fedns_own_fields_are_understood() -> None:
    plan = plan_from_form({"round_timeout": "60", "task": "digits", "rounds": "2"}).plan
    assert SessionPlan.model_validate(plan).round_timeout_s == 60 and plan["parameters"] == {"task": "digits"}


@pytest.mark.parametrize("text", ["{nope}", "[1]", "NaN", '{"a": NaN}', "[" * 5000])
def test_what_is_no_json_object_is_told_with_its_field(text: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        plan_from_form({"parameters": text, "more": text})
    by_field, problems = faults_by_field(caught.value)
    assert set(by_field) == {"parameters", "more"} and len(problems) == 2


def test_a_fault_that_belongs_to_no_field_is_told_above_the_form() -> None:
    assert faults_by_field(InvalidInput("session_running", "a session runs")) == ({}, [])
    by_field, _ = faults_by_field(InvalidInput("unknown_option", "there is no 'x' among the rules"))
    assert set(by_field) == {"rule"}


def test_choices_name_what_is_installed() -> None:
    found = choices([])
    assert "fedavg" in dict(found["rule"]) and "synchronous" in dict(found["scheduler"])
    assert found["helper"][0][0] == "" and "numpy" in dict(found["helper"])
    assert found["package_id"] == [("", "None: clients bring their own Learner")]


def test_faults_stand_beside_their_fields_and_what_was_typed_stays(parts: Parts, client: FlaskClient) -> None:
    client.post("/login", data={"secret": ADMIN_SECRET}, base_url=SECURE)
    page = client.get("/start", headers=HTML, base_url=SECURE).text
    token = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page)
    assert token is not None
    form = {
        "csrf_token": token[1],
        "name": "<mine>",
        "rounds": "0",
        "clients_required": "5",
        "clients_requested": "2",
        "round_timeout_s": "soon",
        "more": '{"rouns": 3}',
    }
    answer = client.post("/start", data=form, headers=HTML, base_url=SECURE)
    assert answer.status_code == 422
    assert 'value="&lt;mine&gt;"' in answer.text
    for field in ("rounds", "round_timeout_s", "more"):
        assert f'id="{field}-fault"' in answer.text, field
        assert f'href="#{field}"' in answer.text
    assert answer.text.count('aria-invalid="true"') == 3
    form |= {"rounds": "1", "round_timeout_s": "5", "more": ""}
    answer = client.post("/start", data=form, headers=HTML, base_url=SECURE)
    assert 'id="clients_requested-fault"' in answer.text
    form["clients_requested"] = "5"
    answer = client.post("/start", data=form, headers=HTML, base_url=SECURE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard?session=s-0")
    assert parts.sessions.plans[0].clients_requested == 5
