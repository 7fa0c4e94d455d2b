"""The first page: the state in one sentence, what to do next, and who takes part."""

from dataclasses import dataclass

from flask import Blueprint

from fedn.protocol.rest import RoundView, SessionView, StatusView
from fedn.protocol.rounds import LedgerState, RoundKind, RoundState
from fedn.reducer.pages import topics
from fedn.reducer.pages.charts import charts
from fedn.reducer.pages.clients import MOST_CLIENTS, shown_round, who
from fedn.reducer.pages.measures import validation_means
from fedn.reducer.pages.participation import answer, name_of_round
from fedn.reducer.pages.render import Page, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.rest import joining, status
from fedn.reducer.services import services

blueprint = Blueprint("overview", __name__)

_EVENTS = 8
_FINE = frozenset({"ledger_changed", "validation_added"})
"""Kinds of events of which there are too many for this page."""
_LOOKED_AT = 1000


@dataclass(frozen=True)
class Step:
    """Something that a federation needs before it can train."""

    done: bool
    what: str
    how: str = ""
    link: str = ""
    link_text: str = ""
    command: str = ""


@dataclass(frozen=True)
class Headline:
    state: str
    """For the mark beside it."""
    text: str


@shows(
    blueprint,
    "/",
    topics.SESSIONS,
    topics.ROUNDS,
    topics.CLIENTS,
    topics.COMBINERS,
    topics.MODELS,
    topics.PACKAGES,
    topics.STORES,
)
def home() -> Page:
    parts = services()
    now = status.status_view()
    session = parts.sessions.running() or next(iter(parts.sessions.list(1)), None)
    rounds = [] if session is None else parts.watching.history.rounds(session.id)
    shown = shown_round(rounds)
    lines = who(joining.client_views(MOST_CLIENTS), rounds, shown)
    means = {} if session is None else validation_means(session.id)
    trained = [view for view in rounds if view.kind is RoundKind.TRAIN]
    return page(
        "home.html",
        status=now,
        headline=headline(now, session, shown),
        steps=steps(now),
        session=session,
        shown=shown,
        name_of_round=name_of_round,
        answer=answer(lines, shown, over=shown is not None and shown.ended_at is not None),
        out=[line for line in lines if line.why][:8],
        num_out=sum(bool(line.why) for line in lines),
        taking=sum(line.takes_part for line in lines),
        charts=charts({view.index + 1: means.get(view.model_id, {}) for view in trained})[:2],
        events=[event for event in parts.events.latest(_LOOKED_AT)[::-1] if event.kind not in _FINE][:_EVENTS],
        vitals=parts.watching.vitals,
    )


def headline(now: StatusView, session: SessionView | None, shown: RoundView | None) -> Headline:
    """The state of the federation in one sentence."""
    for name, store in now.stores.items():
        if store.state != "ok":
            return Headline("unavailable", f"The {name} store does not answer: rounds wait until it is back.")
    if session is not None and session.state == "running":
        return Headline("running", _running(session, shown))
    if not now.combiners_alive:
        word = "is alive" if now.combiners else "has joined yet"
        return Headline("missing", f"No combiner {word}: clients have nowhere to attach.")
    if not now.clients_attached:
        return Headline("waiting", "No client is attached: start some, and they come here by themselves.")
    if not now.trail_length:
        return Headline("waiting", "No seed model yet: upload one, or let a client make it.")
    if session is not None and session.state == "failed":
        return Headline("failed", f"The last session failed after {session.rounds_done} of {session.rounds} rounds.")
    attached = f"{now.clients_attached} client{'' if now.clients_attached == 1 else 's'}"
    verb = "is" if now.clients_attached == 1 else "are"
    return Headline("good", f"Ready: {attached} {verb} attached, and no session runs.")


def _running(session: SessionView, shown: RoundView | None) -> str:
    if shown is None:
        return f"Session {session.name} begins."
    place = f"round {name_of_round(shown)} of {session.rounds}"
    if shown.kind is not RoundKind.TRAIN:
        place = f"the round for the {name_of_round(shown)}"
    if shown.state is RoundState.WAITING:
        return f"Session {session.name} waits for enough clients for {place}."
    if shown.state is RoundState.AGGREGATING:
        return f"Session {session.name}: {place} is being aggregated."
    ended = sum(entry.state.final and entry.state is not LedgerState.NOT_SELECTED for entry in shown.ledger)
    asked = len(shown.cohort)
    return f"Session {session.name} is in {place}: {ended} of {asked} client{'' if asked == 1 else 's'} answered."


def steps(now: StatusView) -> list[Step]:
    """What a federation needs, in order; all done where it can train."""
    return [
        Step(
            now.combiners_alive > 0,
            "A combiner is alive",
            "Make a join string where the reducer runs, and start a combiner with it.",
            command="fedn token create\nfedn combiner start --join fedn1.…",
        ),
        Step(
            now.clients_attached > 0,
            "Clients are attached",
            "Start them with a join string. They open every connection themselves; no port has to be open.",
            command="fedn client start --join fedn1.…",
        ),
        Step(
            now.trail_length > 0,
            "A seed model is there",
            "Upload one, or let a client make it when the session starts.",
            "/seed",
            "Seed a model",
        ),
    ]
