"""The plain pages: what is there, what happens, and forms to seed, start and upload."""

from flask import Blueprint, Response

from fedn.protocol.rest import RoundView, SessionView
from fedn.protocol.tasks import weighted_mean
from fedn.protocol.trail import ValidationRecord
from fedn.reducer.pages.render import html
from fedn.reducer.rest import joining, models, status
from fedn.reducer.rest.answers import arguments
from fedn.reducer.services import services

blueprint = Blueprint("pages", __name__)

_SHOWN = 50


@blueprint.get("/health")
def health() -> Response:
    """Whether the process serves at all; says nothing about the federation."""
    return Response('{"status":"ok"}\n', mimetype="application/json")


@blueprint.get("/")
def home() -> Response:
    return html("home.html", status=status.status_view(), events=services().events.latest(_SHOWN)[::-1])


@blueprint.get("/seed")
def seed() -> Response:
    found, total = models.latest_models(_SHOWN)
    return html("seed.html", models=found, total=total)


@blueprint.get("/start")
def start() -> Response:
    parts = services()
    return html("start.html", running=parts.sessions.running(), package=parts.catalog.active())


@blueprint.get("/dashboard")
def dashboard() -> Response:
    """The latest sessions, and the rounds of one: the chosen, the running or the latest."""
    known = services().sessions
    sessions = known.list(_SHOWN)
    wanted = arguments("session").get("session")
    chosen = known.get(wanted) if wanted else next(iter(sessions), None)
    rounds = _latest_rounds(chosen)
    return html("dashboard.html", sessions=sessions, chosen=chosen, rounds=rounds, latest=next(iter(rounds), None))


@blueprint.get("/plot")
def plot() -> Response:
    """Metrics over rounds, as a table: what clients found of each model, and what their training said."""
    chain = services().trail
    found, total = models.latest_models(_SHOWN)
    records = [record for model in found for record in chain.validations(entry_hash=model.entry_hash, limit=1000)]
    by_entry = {model.entry_hash: _mean(records, model.entry_hash) for model in found}
    names = sorted({name for values in by_entry.values() for name in values})
    trained = sorted({name for model in found for name in model.metrics})
    return html("plot.html", models=found, total=total, validations=by_entry, names=names, trained=trained)


@blueprint.get("/network")
def network() -> Response:
    combiners = [record.view() for record in services().registry.combiners()]
    return html("network.html", combiners=combiners, clients=joining.client_views())


@blueprint.get("/metrics")
def metrics() -> Response:
    arguments()
    parts = services()
    return Response(parts.metrics.render(), content_type=parts.metrics.content_type)


def _latest_rounds(session: SessionView | None) -> list[RoundView]:
    """The last rounds of a session, the latest first."""
    if session is None:
        return []
    known = services().sessions
    offset = max(0, known.count_rounds(session.id) - _SHOWN)
    return list(known.rounds(session.id, _SHOWN, offset))[::-1]


def _mean(records: list[ValidationRecord], entry_hash: str) -> dict[str, float]:
    mine = [(record.num_examples or 1.0, record.metrics) for record in records if record.entry_hash == entry_hash]
    return weighted_mean(mine)
