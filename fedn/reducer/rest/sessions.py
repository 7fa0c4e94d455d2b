"""Sessions and their rounds: start, stop, resume, and what became of them."""

from enum import StrEnum

from flask import Blueprint, Response, request

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rest import (
    Accounting,
    PredictionPage,
    RoundPage,
    RoundStatistics,
    RoundView,
    SessionPage,
    SessionStart,
    SessionStatistics,
    SessionView,
    ValidationPage,
    round_statistics,
)
from fedn.protocol.rounds import RoundKind, RoundState
from fedn.reducer.engine.records import SessionState
from fedn.reducer.rest.answers import body, conditional, created, payload_of, reply
from fedn.reducer.rest.describe import Argument, describe
from fedn.reducer.rest.gate import claims
from fedn.reducer.rest.lists import Listing, listed, read_query
from fedn.reducer.rest.transfers import stored_object
from fedn.reducer.services import services

blueprint = Blueprint("sessions", __name__)


class EndedAs(StrEnum):
    """States of a round that is over: those of a running one change from moment to moment."""

    COMMITTED = RoundState.COMMITTED.value
    FAILED = RoundState.FAILED.value
    CANCELLED = RoundState.CANCELLED.value


MAX_KEY_CHARS = 255
_KEY = Argument(
    "Names the request: sent again with the same key, it starts nothing, and answers with the session it made.",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": "^[!-~]+$"},
    place="header",
    example="5f2b6b4e-8d0d-4b0e-9a0c-7d1f6b2c3a10",
)
_SESSIONS = Listing(
    ("created_at", "name", "state"), "-created_at", {"name": str, "state": SessionState, "kind": RoundKind}
)
_ROUNDS = Listing(("index", "started_at"), "index", {"kind": RoundKind, "state": EndedAs})
_VALIDATIONS = Listing(("time", "client"), "time", {"client": str, "model_id": str})
_PREDICTIONS = Listing(("client", "size_bytes"), "client", {"client": str})


@blueprint.post("/sessions")
@describe(
    "Start a session; answers at once",
    request=SessionStart,
    reply=SessionView,
    status=201,
    errors=(409,),
    query={"Idempotency-Key": _KEY},
)
def start() -> Response:
    view = start_session(body(SessionStart), key=_request_key())
    return created(view, view.links["self"])


def _request_key() -> str:
    """The Idempotency-Key, as this caller's own; "" without one. InvalidInput (`bad_idempotency_key`)."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return ""
    if not 1 <= len(given) <= MAX_KEY_CHARS:
        raise InvalidInput(
            "bad_idempotency_key",
            f"the Idempotency-Key has {len(given)} characters",
            fix=f"Give 1 to {MAX_KEY_CHARS}, such as a UUID.",
        )
    return f"{claims().subject}/{given}"


def start_session(wanted: SessionStart, *, key: str = "") -> SessionView:
    """Starts a session.

    `key`: see `Sessions.start`.

    Raises:
        InvalidSettings: every fault of the plan.
        As `Sessions.start`.
    """
    plan = payload_of(SessionPlan, wanted.plan, what="the plan")
    return services().sessions.start(plan, wanted.name, RoundKind(wanted.kind), key=key)


@blueprint.get("/sessions")
@describe("List sessions, the latest first", reply=SessionPage, listing=_SESSIONS)
def sessions() -> Response:
    query, known = read_query(_SESSIONS), services().sessions
    return listed(known.list(where=query.where, **query.window), known.count(query.where), query)


@blueprint.get("/sessions/<session>")
@describe("Show a session", reply=SessionView)
def show(session: str) -> Response:
    return reply(services().sessions.get(session))


@blueprint.post("/sessions/<session>/stop")
@describe("Stop a running session", reply=SessionView, errors=(409,))
def stop(session: str) -> Response:
    return reply(services().sessions.stop(session))


@blueprint.post("/sessions/<session>/resume")
@describe("Go on with a stopped or failed session", reply=SessionView, errors=(409,))
def resume(session: str) -> Response:
    return reply(services().sessions.resume(session))


@blueprint.get("/sessions/<session>/rounds")
@describe("List a session's rounds, with their ledgers", reply=RoundPage, listing=_ROUNDS)
def rounds(session: str) -> Response:
    query, known = read_query(_ROUNDS), services().sessions
    found = known.rounds(session, where=query.where, **query.window)
    return listed(found, known.count_rounds(session, query.where), query)


@blueprint.get("/sessions/<session>/rounds/<int:index>")
@describe("Show a round with its ledger", reply=RoundView)
def show_round(session: str, index: int) -> Response:
    return reply(services().sessions.round(session, index))


@blueprint.get("/sessions/<session>/accounting")
@describe("What a session took: traffic and compute time, by round and client", reply=Accounting, tagged=True)
def accounting(session: str) -> Response:
    return conditional(reply(services().sessions.accounting(session)))


@blueprint.get("/sessions/<session>/statistics")
@describe("Where a session's time went, by round, client and model", reply=SessionStatistics, tagged=True)
def statistics(session: str) -> Response:
    return conditional(reply(services().sessions.statistics(session)))


@blueprint.get("/sessions/<session>/rounds/<int:index>/statistics")
@describe("Where a round's time went, by client and combiner", reply=RoundStatistics)
def round_times(session: str, index: int) -> Response:
    return reply(round_statistics(services().sessions.round(session, index)))


@blueprint.get("/sessions/<session>/validations")
@describe("List what clients found of the models, in one session", reply=ValidationPage, listing=_VALIDATIONS)
def validations(session: str) -> Response:
    query, parts = read_query(_VALIDATIONS), services()
    parts.sessions.get(session)
    found = parts.trail.validations({**query.where, "session": session}, **query.window)
    return listed(found, parts.trail.count_validations({**query.where, "session": session}), query)


@blueprint.get("/sessions/<session>/predictions")
@describe("List what clients predicted, in a session of kind predict", reply=PredictionPage, listing=_PREDICTIONS)
def predictions(session: str) -> Response:
    query = read_query(_PREDICTIONS)
    found, total = query.page_of(services().sessions.predictions(session))
    return listed(found, total, query)


@blueprint.get("/sessions/<session>/predictions/<client>/download")
@describe("Download what a client predicted (safetensors)", text="application/octet-stream", tagged=True)
def download_prediction(session: str, client: str) -> Response:
    view = services().sessions.prediction(session, client)
    return stored_object(view.object_id, f"{view.object_id.partition(':')[2][:16]}.safetensors")
