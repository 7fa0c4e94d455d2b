"""The addresses that users of FEDn know, for curl and scripts: /add, /assign, /seed, /start, /context and others.

They do what the REST API does, under their old names. A browser that sends a form is led back to its page.
"""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, InvalidSettings, NotFound
from fedn.protocol.rest import MAX_PAGE, AssignmentRequest, SessionStart
from fedn.reducer.pages.render import go_to, html
from fedn.reducer.rest import joining, models, packages, sessions, status
from fedn.reducer.rest.answers import arguments, created, json_object, payload_of, reply, wants_html, whole
from fedn.reducer.rest.gate import CSRF_FIELD, claims
from fedn.reducer.services import services

blueprint = Blueprint("old_names", __name__)

_OLD_FIELDS = {"round_timeout": "round_timeout_s", "timeout": "round_timeout_s"}
"""Fields of FEDn's form that have another name in a plan."""
_SHOWN = 200


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
    view = models.receive_seed()
    return go_to("/seed") if wants_html() else created(view, view.links["self"])


@blueprint.post("/start")
def start() -> Response:
    """Form or JSON: the fields of a plan, FEDn's `round_timeout`, `timeout` and `task`, and `name`."""
    given = _form_or_json()
    view = sessions.start_session(SessionStart(name=given.pop("name", None) or None, plan=_plan_of(given)))
    return go_to(f"/dashboard?session={view.id}") if wants_html() else created(view, view.links["self"])


@blueprint.get("/context")
def context() -> Response:
    """The active compute package; for a browser, the page about it."""
    name = arguments("name").get("name")
    catalog = services().catalog
    if wants_html() and name is None:
        return html("context.html", packages=catalog.packages(_SHOWN))
    package = catalog.active() if name is None else next((p for p in catalog.packages() if p.name == name), None)
    if package is None:
        raise NotFound(
            "no_such_package", "there is no such compute package", fix="Upload one: curl -F file=@package.tgz …/context"
        )
    return packages.package_file(package)


@blueprint.post("/context")
def upload_context() -> Response:
    view = packages.receive_package()
    location = f"/api/v1/packages/{view.package_id}/download"
    return go_to("/context") if wants_html() else created(view, location)


@blueprint.get("/status")
def old_status() -> Response:
    return status.status()


@blueprint.get("/models")
def old_models() -> Response:
    if not wants_html():
        return models.models()
    found, total = models.latest_models(_SHOWN)
    return html("models.html", models=found, total=total)


@blueprint.get("/events")
def old_events() -> Response:
    """The latest events, in order."""
    limit = whole(arguments("limit"), "limit", _SHOWN, least=1, most=MAX_PAGE)
    found = services().events.latest(limit)
    return html("events.html", events=found[::-1]) if wants_html() else reply({"events": found})


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
