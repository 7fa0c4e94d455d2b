"""The addresses that users of FEDn know, for curl and scripts: /add, /assign, /seed, /start, /context and others.

They do what the REST API does, under their old names. What a browser gets there stands with each page.
"""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, InvalidSettings
from fedn.protocol.rest import AssignmentRequest, SessionStart
from fedn.reducer.pages.models import seed_from_form
from fedn.reducer.pages.packages import upload_from_form
from fedn.reducer.pages.session import start_from_form
from fedn.reducer.rest import joining, models, packages, sessions, status
from fedn.reducer.rest.answers import arguments, created, json_object, payload_of, reply, wants_html
from fedn.reducer.rest.gate import CSRF_FIELD, claims

blueprint = Blueprint("old_names", __name__)

_OLD_FIELDS = {"round_timeout": "round_timeout_s", "timeout": "round_timeout_s"}
"""Fields of FEDn's form that have another name in a plan."""


@blueprint.post("/add")
def add() -> Response:
    return joining.add_combiner()


@blueprint.route("/assign", methods=["GET", "POST"])
def assign() -> Response:
    """`name` is the caller's own; `combiner` the one it prefers."""
    given = {**arguments("name", "combiner"), **(_form_or_json() if request.method == "POST" else {})}
    unknown = sorted(given.keys() - {"name", "combiner", "preferred", "avoid"})
    if unknown:
        raise InvalidInput(
            "unknown_argument", f"this call has no argument {unknown[0]!r}", fix="It has name, combiner."
        )
    if given.get("name", claims().subject) != claims().subject:
        raise InvalidInput(
            "not_your_name",
            f"the token is {claims().subject!r}'s, and speaks for no other",
            fix="Leave the name out, or use your own.",
            where={"client": given["name"]},
        )
    wanted = {
        "preferred": given.get("preferred") or given.get("combiner") or "",
        "avoid": given.get("avoid") or (),
    }
    return reply(joining.assignment(payload_of(AssignmentRequest, wanted)))


@blueprint.post("/seed")
def seed() -> Response:
    if wants_html():
        return seed_from_form()
    view = models.receive_seed()
    return created(view, view.links["self"])


@blueprint.post("/start")
def start() -> Response:
    """Form or JSON: the fields of a plan, FEDn's `round_timeout`, `timeout` and `task`, and `name`."""
    if wants_html():
        return start_from_form()
    given = _form_or_json()
    view = sessions.start_session(SessionStart(name=given.pop("name", None) or None, plan=_plan_of(given)))
    return created(view, view.links["self"])


@blueprint.post("/context")
def upload_context() -> Response:
    if wants_html():
        return upload_from_form()
    view = packages.receive_package()
    return created(view, f"/api/v1/packages/{view.package_id}/download")


@blueprint.get("/status")
def old_status() -> Response:
    return status.status()


def _form_or_json() -> dict[str, Any]:
    """The body's fields, without those of a form that were left empty."""
    if request.mimetype in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        fields = request.form.to_dict()
        return {name: value for name, value in fields.items() if value != "" and name != CSRF_FIELD}
    return json_object()


def _plan_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A plan from FEDn's and our own fields. InvalidSettings names each field that there is not."""
    known = {field.alias or name for name, field in SessionPlan.model_fields.items()} | _OLD_FIELDS.keys() | {"task"}
    unknown = sorted(given.keys() - known)
    if unknown:
        problems = [
            InvalidInput("bad_field", "there is no such field", fix="See GET /start.", where={"field": name})
            for name in unknown
        ]
        raise InvalidSettings([*problems], what="the plan")
    plan = {_OLD_FIELDS.get(name, name): value for name, value in given.items() if name != "task"}
    if given.get("task"):
        parameters = plan.get("parameters")
        plan["parameters"] = {**(parameters if isinstance(parameters, dict) else {}), "task": given["task"]}
    return plan
