"""Sessions and their rounds: start, stop, resume, and what became of them."""

from flask import Blueprint, Response

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import (
    PredictionPage,
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
from fedn.reducer.rest.transfers import stored_object
from fedn.reducer.services import services

blueprint = Blueprint("sessions", __name__)


@blueprint.post("/sessions")
@describe("Start a session; answers at once", request=SessionStart, reply=SessionView, status=201)
def start() -> Response:
    view = start_session(body(SessionStart))
    return created(view, view.links["self"])


def start_session(wanted: SessionStart) -> SessionView:
    """Starts a session.

    Raises:
        InvalidSettings: every fault of the plan.
        As `Sessions.start`.
    """
    plan = payload_of(SessionPlan, wanted.plan, what="the plan")
    return services().sessions.start(plan, wanted.name, RoundKind(wanted.kind))


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


@blueprint.get("/sessions/<session>/predictions")
@describe("List what clients predicted, in a session of kind predict", reply=PredictionPage, query=("limit", "offset"))
def predictions(session: str) -> Response:
    limit, offset = page()
    found = list(services().sessions.predictions(session))
    return listing(found[offset : offset + limit], total=len(found), limit=limit, offset=offset)


@blueprint.get("/sessions/<session>/predictions/<client>/download")
@describe("Download what a client predicted (safetensors)", text="application/octet-stream")
def download_prediction(session: str, client: str) -> Response:
    arguments()
    view = services().sessions.prediction(session, client)
    return stored_object(view.object_id, f"{view.object_id.partition(':')[2][:16]}.safetensors")
