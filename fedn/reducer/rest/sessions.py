"""Sessions and their rounds: start, stop, resume, and what became of them."""

from typing import Any

from flask import Blueprint, Response

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, NotFound
from fedn.protocol.rest import (
    RoundPage,
    RoundView,
    SessionPage,
    SessionStart,
    SessionView,
    ValidationPage,
)
from fedn.protocol.rounds import RoundKind
from fedn.reducer.rest.answers import arguments, body, created, listing, page, payload_of, reply
from fedn.reducer.rest.openapi import describe
from fedn.reducer.services import services

blueprint = Blueprint("sessions", __name__)


@blueprint.post("/sessions")
@describe("Start a session; answers at once", request=SessionStart, reply=SessionView, status=201)
def start() -> Response:
    view = start_session(body(SessionStart))
    return created(view, view.links["self"])


def start_session(wanted: SessionStart) -> SessionView:
    """Starts a session of a plan that is checked here.

    Raises:
        InvalidSettings: every fault of the plan.
        InvalidInput: (`no_such_package`).
        Conflict: `session_running`, `no_seed_model`.
    """
    plan = payload_of(SessionPlan, _completed(wanted.plan), what="the plan")
    if plan.package_id is not None:
        _check_package(plan.package_id)
    return services().sessions.start(plan, wanted.name, RoundKind(wanted.kind))


def _completed(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan with what the active package says, where the plan itself says nothing."""
    package = services().catalog.active()
    if package is None or "package_id" in plan:
        return plan
    helper = {"helper": package.helper} if package.helper else {}
    return {**helper, **plan, "package_id": package.package_id}


def _check_package(package_id: str) -> None:
    try:
        services().catalog.package(package_id)
    except NotFound as error:
        where = {**error.where, "field": "package_id"}
        raise InvalidInput(error.code, error.message, fix=error.fix, where=where) from error


@blueprint.get("/sessions")
@describe("List sessions, the latest first", reply=SessionPage, query=("limit", "offset"))
def sessions() -> Response:
    limit, offset = page()
    known = services().sessions
    return listing(known.list(limit, offset), total=known.count(), limit=limit, offset=offset)


@blueprint.get("/sessions/<session>")
@describe("Show a session", reply=SessionView)
def show(session: str) -> Response:
    arguments()
    return reply(services().sessions.get(session))


@blueprint.post("/sessions/<session>/stop")
@describe("Stop a running session", reply=SessionView)
def stop(session: str) -> Response:
    return reply(services().sessions.stop(session))


@blueprint.post("/sessions/<session>/resume")
@describe("Go on with a stopped or failed session", reply=SessionView)
def resume(session: str) -> Response:
    return reply(services().sessions.resume(session))


@blueprint.get("/sessions/<session>/rounds")
@describe("List a session's rounds, with their ledgers", reply=RoundPage, query=("limit", "offset"))
def rounds(session: str) -> Response:
    limit, offset = page()
    known = services().sessions
    found = list(known.rounds(session, limit, offset))
    return listing(found, total=known.count_rounds(session), limit=limit, offset=offset)


@blueprint.get("/sessions/<session>/rounds/<int:index>")
@describe("Show a round with its ledger", reply=RoundView)
def show_round(session: str, index: int) -> Response:
    arguments()
    return reply(services().sessions.round(session, index))


@blueprint.get("/sessions/<session>/validations")
@describe("List what clients found of the models, in one session", reply=ValidationPage, query=("limit", "offset"))
def validations(session: str) -> Response:
    limit, offset = page()
    parts = services()
    parts.sessions.get(session)
    found = parts.trail.validations(session=session, limit=limit, offset=offset)
    return listing(found, total=parts.trail.count_validations(session=session), limit=limit, offset=offset)
