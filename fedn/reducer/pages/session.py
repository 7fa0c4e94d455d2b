"""A session: how far it is, its rounds as a timeline, who took part in each; and starting, stopping, going on."""

import time
from collections.abc import Sequence

from flask import Blueprint, Response, request

from fedn.protocol.errors import FednError
from fedn.protocol.rest import RoundView, SessionView, round_statistics
from fedn.protocol.rounds import LedgerState, RoundKind, RoundState
from fedn.reducer.pages import topics
from fedn.reducer.pages.charts import charts, in_order
from fedn.reducer.pages.clients import shown_round
from fedn.reducer.pages.measures import validation_means
from fedn.reducer.pages.participation import name_of_round
from fedn.reducer.pages.plan_form import FIELDS, choices, faults_by_field, plan_from_form
from fedn.reducer.pages.render import Page, go_to, page, respond
from fedn.reducer.pages.serve import shows
from fedn.reducer.pages.timeline import CHART_WIDTH, NAME_WIDTH, ROW_HEIGHT, Bar, bars, parts_of, timeline
from fedn.reducer.rest.answers import arguments, whole
from fedn.reducer.rest.sessions import start_session
from fedn.reducer.services import services

blueprint = Blueprint("session", __name__)

_SESSIONS = 20
_ROUNDS = 50
_LEDGER = 200
_TROUBLE_FIRST = [
    LedgerState.FAILED,
    LedgerState.REFUSED,
    LedgerState.DISCONNECTED,
    LedgerState.LATE,
    LedgerState.TRAINING,
    LedgerState.UPLOADING,
    LedgerState.SELECTED,
    LedgerState.UPDATED,
    LedgerState.NOT_SELECTED,
]


@shows(blueprint, "/dashboard", topics.SESSIONS, topics.ROUNDS)
def dashboard() -> Page:
    """The chosen, the running or the latest session; of it, the chosen, the running or the latest round."""
    given = arguments("session", "round", "page")
    known, watching = services().sessions, services().watching
    total = known.count()
    last = max(1, -(-total // _SESSIONS))
    number = min(whole(given, "page", 1, least=1), last)
    sessions = known.list(_SESSIONS, (number - 1) * _SESSIONS)
    chosen = known.chosen(given.get("session"))
    rounds = [] if chosen is None else watching.history.rounds(chosen.id)
    wanted = whole(given, "round", 0)
    shown = known.round(chosen.id, wanted - 1) if chosen and wanted else shown_round(rounds)
    means = {} if chosen is None else validation_means(chosen.id)
    trained = [view for view in rounds if view.kind is RoundKind.TRAIN]
    marks = None if shown is None else watching.marks.of(shown.session, shown.index)
    return page(
        "session.html",
        sessions=sessions,
        total=total,
        page=number,
        last=last,
        session=chosen,
        running=known.running(),
        facts=_facts(chosen, rounds),
        rounds=_table(rounds[::-1][:_ROUNDS]),
        num_rounds=len(rounds),
        means=means,
        names=in_order(name for values in means.values() for name in values)[:4],
        charts=charts({view.index + 1: means.get(view.model_id, {}) for view in trained}),
        shown=shown,
        pinned=bool(wanted),
        timeline=None if shown is None else timeline(shown, marks, time.time()),
        ledger=[] if shown is None else sorted(shown.ledger, key=lambda e: (_TROUBLE_FIRST.index(e.state), e.client)),
        ledger_rows=_LEDGER,
        times={} if shown is None else {one.client: one for one in round_statistics(shown).clients},
        name_of_round=name_of_round,
        sizes=(NAME_WIDTH, CHART_WIDTH, ROW_HEIGHT),
    )


def _facts(session: SessionView | None, rounds: Sequence[RoundView]) -> dict[str, float | None]:
    """Seconds that the session has taken, that a round takes, and that it will take still."""
    if session is None:
        return {}
    ended = [view for view in rounds if view.kind is RoundKind.TRAIN and view.state is RoundState.COMMITTED]
    latest = sorted(view.times_ms.get("total", 0) / 1e3 for view in ended[-10:])
    typical = latest[len(latest) // 2] if latest else None
    left = None
    if session.state == "running" and typical is not None:
        left = typical * max(0, session.rounds - session.rounds_done)
    end = session.ended_at or time.time()
    return {"taken": end - session.created_at, "round": typical, "left": left}


def _table(rounds: Sequence[RoundView]) -> list[tuple[RoundView, dict[str, int], tuple[Bar, ...], float | None]]:
    """(round, ledger state to its number of clients, bars of its parts, seconds that it took), for each round."""
    parts = [parts_of(view) for view in rounds]
    longest = max((sum(found.values()) for found in parts), default=0.0)
    table = []
    for view, found in zip(rounds, parts, strict=True):
        counts: dict[str, int] = {}
        for entry in view.ledger:
            counts[str(entry.state)] = counts.get(str(entry.state), 0) + 1
        took = view.ended_at - view.started_at if view.ended_at else None
        table.append((view, counts, bars(found, 100, longest), took))
    return table


@blueprint.post("/dashboard/<session>/stop")
def stop(session: str) -> Response:
    services().sessions.stop(session)
    return go_to(f"/dashboard?session={session}")


@blueprint.post("/dashboard/<session>/resume")
def resume(session: str) -> Response:
    services().sessions.resume(session)
    return go_to(f"/dashboard?session={session}")


@shows(blueprint, "/start", topics.SESSIONS, topics.PACKAGES, topics.CLIENTS, topics.MODELS)
def start() -> Page:
    """The form of a session; with defaults, or what a link fills in."""
    return form_page({})


def form_page(values: dict[str, str], error: FednError | None = None) -> Page:
    """The form with what was typed, and what is wrong with it beside each field."""
    parts = services()
    by_field, problems = faults_by_field(error)
    head = parts.trail.head()
    return Page(
        "start.html",
        {
            "running": parts.sessions.running(),
            "package": parts.catalog.active(),
            "attached": len(parts.sessions.roster),
            "seeded": head is not None,
            "groups": FIELDS,
            "choices": choices(parts.catalog.packages(20)),
            "values": values,
            "faults": by_field,
            "error": error,
            "problems": problems,
        },
        200 if error is None else error.http_status,
    )


def start_from_form() -> Response:
    """Starts what the form says; on a fault, shows the form again with it."""
    # A box that is not ticked is sent as what stands hidden before it.
    typed = {name: values[-1] for name, values in request.form.lists()}
    try:
        view = start_session(plan_from_form(typed))
    except FednError as error:
        return respond(form_page(typed, error))
    return go_to(f"/dashboard?session={view.id}")
