"""The plain pages: what is there, what happens, and forms to seed, start and upload."""

from flask import Blueprint, Response

from fedn.protocol.rest import RoundView, SessionView
from fedn.protocol.rounds import RoundKind
from fedn.protocol.tasks import weighted_mean
from fedn.protocol.trail import ValidationRecord
from fedn.reducer.pages.charts import charts, in_order
from fedn.reducer.pages.render import html
from fedn.reducer.rest import joining, models, status
from fedn.reducer.rest.answers import arguments, whole
from fedn.reducer.services import services

blueprint = Blueprint("pages", __name__)

_SHOWN = 50
_CLIENTS_SHOWN = 500


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
    """The latest sessions; of one (the chosen, the running or the latest) its rounds, and the ledger of one of them."""
    given = arguments("session", "round")
    known = services().sessions
    sessions = known.list(_SHOWN)
    chosen = known.get(given["session"]) if given.get("session") else next(iter(sessions), None)
    rounds = _latest_rounds(chosen)
    validations = _validations(chosen)
    number = whole(given, "round", 0)
    trained = [view for view in rounds if view.kind is RoundKind.TRAIN]
    ledger_of = known.round(chosen.id, number - 1) if chosen and number else next(iter(trained or rounds), None)
    return html(
        "dashboard.html",
        sessions=sessions,
        chosen=chosen,
        rounds=rounds,
        validations=validations,
        names=in_order(name for values in validations.values() for name in values),
        charts=charts({view.index + 1: validations.get(view.model_id, {}) for view in trained}),
        ledger_of=ledger_of,
    )


@blueprint.get("/plot")
def plot() -> Response:
    """Metrics of the global models: what clients found of each, and what their training said."""
    chain = services().trail
    found, total = models.latest_models(_SHOWN)
    records = [record for model in found for record in chain.validations(entry_hash=model.entry_hash, limit=1000)]
    by_entry = {model.entry_hash: _mean(records, model.entry_hash) for model in found}
    return html(
        "plot.html",
        models=found,
        total=total,
        validations=by_entry,
        names=in_order(name for values in by_entry.values() for name in values),
        trained=in_order(name for model in found for name in model.metrics),
        charts=charts({model.index: by_entry[model.entry_hash] for model in found}),
        training_charts=charts({model.index: model.metrics for model in found}),
    )


@blueprint.get("/network")
def network() -> Response:
    combiners = [record.view() for record in services().registry.combiners()]
    clients = joining.client_views(_CLIENTS_SHOWN)
    return html("network.html", combiners=combiners, clients=clients, enrolled=joining.count_clients())


@blueprint.get("/metrics")
def metrics() -> Response:
    arguments()
    parts = services()
    return Response(parts.metrics.render(), content_type=parts.metrics.content_type)


def _latest_rounds(session: SessionView | None) -> list[RoundView]:
    """The last rounds of a session, the latest first: the one that makes the first model has the highest index."""
    if session is None:
        return []
    known = services().sessions
    offset = max(0, known.count_rounds(session.id) - _SHOWN)
    return sorted(known.rounds(session.id, _SHOWN, offset), key=lambda view: view.started_at, reverse=True)


def _validations(session: SessionView | None) -> dict[str, dict[str, float]]:
    """What its clients found of each model of a session, by the model's id."""
    if session is None:
        return {}
    records: dict[str, list[ValidationRecord]] = {}
    for record in services().trail.validations(session=session.id):
        records.setdefault(record.model_id, []).append(record)
    return {model: _mean(found, found[0].entry_hash) for model, found in records.items()}


def _mean(records: list[ValidationRecord], entry_hash: str) -> dict[str, float]:
    mine = [(record.num_examples or 1.0, record.metrics) for record in records if record.entry_hash == entry_hash]
    return weighted_mean(mine)
