"""The page of metrics, and figures for programs under FEDn's old address."""

import time
from dataclasses import dataclass

from flask import Blueprint, Response, request

from fedn.protocol.errors import InvalidInput
from fedn.protocol.rest import RoundView, SessionView
from fedn.protocol.rounds import RoundKind
from fedn.reducer.pages import topics
from fedn.reducer.pages.charts import in_order
from fedn.reducer.pages.clients import shown_round
from fedn.reducer.pages.figures import (
    MAX_LINES,
    Figure,
    box_figure,
    client_figure,
    cpu_figure,
    mean_figure,
    memory_figure,
    round_time_figure,
    table_figure,
    timeline_figure,
)
from fedn.reducer.pages.measures import TRAINING, VALIDATION, Measured, metric_names, spreads, training, validation
from fedn.reducer.pages.render import Page, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.pages.timeline import parts_of, timeline
from fedn.reducer.pages.vendor import plotly_style_id
from fedn.reducer.rest.answers import arguments, reply
from fedn.reducer.services import services

blueprint = Blueprint("metrics", __name__)

_SESSIONS = 50
_OLD_TYPES = ("table", "timeline", "round_time", "box", "cpu", "memory", "mean", "clients")


@dataclass(frozen=True)
class Choice:
    """What is looked at."""

    session: SessionView | None
    rounds: list[RoundView]
    source: str
    measured: list[Measured]
    names: list[str]
    metric: str


@shows(blueprint, "/plot", topics.ROUNDS, topics.SESSIONS, topics.MODELS, topics.VITALS)
def plot() -> Page:
    given = arguments("session", "source", "metric")
    choice = _choice(given)
    found = spreads(choice.measured, choice.metric)
    samples = services().watching.vitals.samples()
    trained = [view for view in choice.rounds if view.kind is RoundKind.TRAIN]
    return page(
        "metrics.html",
        sessions=services().sessions.list(_SESSIONS),
        choice=choice,
        spreads=found,
        mean=mean_figure(found, choice.metric),
        box=box_figure(found, choice.metric),
        by_client=client_figure(choice.measured, choice.metric),
        most_lines=MAX_LINES,
        times=round_time_figure(trained, parts_of),
        parts=[(view, parts_of(view)) for view in trained],
        cpu=cpu_figure(samples),
        memory=memory_figure(samples),
        samples=samples,
        plotly=PLOTLY_ADDRESS,
        plotly_style_id=plotly_style_id(),
    )


PLOTLY_ADDRESS = "/vendor/plotly.js"


@blueprint.route("/plot_type", methods=["GET", "POST"])
def plot_type() -> Response:
    """One figure as plotly's JSON: `selected` is one of FEDn's (table, timeline, round_time, box, cpu) or ours."""
    given = arguments("selected", "session", "source", "metric") | request.form.to_dict()
    selected = given.get("selected", "box")
    choice = _choice(given)
    found = spreads(choice.measured, choice.metric)
    trained = [view for view in choice.rounds if view.kind is RoundKind.TRAIN]
    samples = services().watching.vitals.samples()
    figures = {
        "table": lambda: table_figure(choice.measured, choice.names),
        "timeline": lambda: _timeline(choice.rounds),
        "round_time": lambda: round_time_figure(trained, parts_of),
        "box": lambda: box_figure(found, choice.metric),
        "cpu": lambda: cpu_figure(samples),
        "memory": lambda: memory_figure(samples),
        "mean": lambda: mean_figure(found, choice.metric),
        "clients": lambda: client_figure(choice.measured, choice.metric),
    }
    if selected not in figures:
        raise InvalidInput(
            "bad_argument",
            f"there is no figure {selected[:40]!r}",
            fix=f"Use one of {', '.join(_OLD_TYPES)}.",
            where={"field": "selected"},
        )
    return reply(figures[selected]())


def _choice(given: dict[str, str]) -> Choice:
    """What the address asks for; what it leaves out, or what is not there, is chosen."""
    parts = services()
    known = parts.sessions
    session = known.chosen(given.get("session"))
    source = given.get("source") or VALIDATION
    if source not in {VALIDATION, TRAINING}:
        raise InvalidInput(
            "bad_argument",
            f"there are no metrics of {source[:40]!r}",
            fix=f"Use {VALIDATION} or {TRAINING}.",
            where={"field": "source"},
        )
    rounds = [] if session is None else parts.watching.history.rounds(session.id)
    if session is None:
        measured = []
    elif source == TRAINING:
        measured = training(rounds)
    else:
        measured = validation(rounds, parts.watching.history.validations(session.id))
    names = in_order(metric_names(measured))
    wanted = given.get("metric", "")
    metric = wanted if wanted in names else next(iter(names), "")
    return Choice(session, rounds, source, measured, names, metric)


def _timeline(rounds: list[RoundView]) -> Figure:
    shown = shown_round(rounds)
    marks = None if shown is None else services().watching.marks.of(shown.session, shown.index)
    chart = None if shown is None else timeline(shown, marks, time.time())
    return timeline_figure(chart) if chart is not None else {"data": [], "layout": {}}
