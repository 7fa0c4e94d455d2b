"""Who takes part, who does not, and why: the table of clients with their ledger over the latest rounds."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response

from fedn.network.tokens import Role
from fedn.protocol.rest import ClientView, RoundView
from fedn.protocol.rounds import RoundKind
from fedn.reducer.pages import topics
from fedn.reducer.pages.participation import Participation, answer, name_of_round, participation
from fedn.reducer.pages.render import Page, go_to, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.rest import joining
from fedn.reducer.rest.answers import arguments, whole
from fedn.reducer.services import services

blueprint = Blueprint("clients", __name__)

COLUMNS: Final = 12
"""Rounds in the table."""
_ROWS = 100
MOST_CLIENTS: Final = 2000
"""Whose participation is looked at at once, by name; what there is beyond is counted only."""


@shows(blueprint, "/clients", topics.CLIENTS, topics.ROUNDS, topics.SESSIONS, topics.COMBINERS)
def clients() -> Page:
    given = arguments("session", "state", "page")
    parts = services()
    sessions = parts.sessions.list(20)
    chosen = given.get("session") or _current()
    rounds = [] if chosen is None else parts.watching.history.rounds(chosen)
    shown = shown_round(rounds)
    lines = who(joining.client_views(MOST_CLIENTS), rounds, shown)
    picked = [line for line in lines if _fits(line, given.get("state", ""))]
    last = max(1, -(-len(picked) // _ROWS))
    number = min(whole(given, "page", 1, least=1), last)
    return page(
        "clients.html",
        answer=answer(lines, shown, over=shown is not None and shown.ended_at is not None),
        lines=picked[(number - 1) * _ROWS : number * _ROWS],
        total=len(picked),
        page=number,
        last=last,
        path=_path(given),
        columns=[view for view in rounds if view.kind is RoundKind.TRAIN][-COLUMNS:],
        shown=shown,
        name_of_round=name_of_round,
        sessions=sessions,
        session=chosen,
        state=given.get("state", ""),
        enrolled=joining.count_clients(),
        looked_at=MOST_CLIENTS,
    )


@shows(blueprint, "/clients/<name>", topics.CLIENTS, topics.ROUNDS)
def client(name: str) -> Page:
    """One client: where it is, and what became of it in each of the latest rounds."""
    given = arguments("session")
    parts = services()
    view = joining.client_view(parts.enrolment.site(Role.CLIENT, name))
    session = given.get("session") or _current()
    rounds = [] if session is None else parts.watching.history.rounds(session)
    found = [(row, next((entry for entry in row.ledger if entry.client == name), None)) for row in rounds]
    (line,) = who([view], rounds, shown_round(rounds), strangers=False)
    return page(
        "client.html",
        client=view,
        line=line,
        history=[(row, entry) for row, entry in found if entry is not None][::-1][:_ROWS],
        name_of_round=name_of_round,
        session=session,
    )


@blueprint.post("/clients/<name>/forget")
def forget(name: str) -> Response:
    """Frees the name, and ends the client's stream if it has one."""
    joining.forget_client(name)
    return go_to("/clients")


def shown_round(rounds: Sequence[RoundView]) -> RoundView | None:
    """The round that a page is about if nobody chose one: the last that trains, else the last."""
    trained = [view for view in rounds if view.kind is RoundKind.TRAIN]
    return next(reversed(trained or rounds), None) if rounds else None


def who(
    clients: Sequence[ClientView],
    rounds: Sequence[RoundView],
    shown: RoundView | None,
    *,
    strangers: bool = True,
) -> list[Participation]:
    """A line for each client; with `strangers`, also for who was not let in."""
    visitors = services().watching.visitors
    return participation(
        clients,
        [view for view in rounds if view.kind is RoundKind.TRAIN],
        visitors.why_not,
        visitors.turned_away() if strangers else (),
        shown=shown,
        columns=COLUMNS,
    )


def _current() -> str | None:
    """The session that runs, or the latest."""
    sessions = services().sessions
    found = sessions.running() or next(iter(sessions.list(1)), None)
    return None if found is None else found.id


def _fits(line: Participation, state: str) -> bool:
    return {"in": line.takes_part, "out": not line.takes_part, "away": line.state != "attached"}.get(state, True)


def _path(given: dict[str, str]) -> str:
    kept = {name: value for name, value in given.items() if name != "page" and value}
    return f"/clients?{urlencode(kept)}{'&' if kept else ''}"
