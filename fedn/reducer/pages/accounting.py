"""What a session took: traffic on the clients' links and compute time, in all, by client and by round."""

from typing import Final

from flask import Blueprint

from fedn.reducer.pages import topics
from fedn.reducer.pages.participation import name_of_round
from fedn.reducer.pages.render import Page, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.rest.answers import arguments, whole
from fedn.reducer.services import services

blueprint = Blueprint("accounting", __name__)

_CLIENTS: Final = 100
_ROUNDS: Final = 50
_SESSIONS: Final = 50


@shows(blueprint, "/accounting", topics.ROUNDS, topics.SESSIONS)
def accounting() -> Page:
    """The chosen, the running or the latest session; those who caused the most traffic first."""
    given = arguments("session", "page")
    known = services().sessions
    sessions = known.list(_SESSIONS)
    chosen = known.chosen(given.get("session"))
    found = None if chosen is None else services().watching.accounts.of(chosen.id).closed()
    clients = (
        [] if found is None else sorted(found.clients, key=lambda each: -(each.usage.down_bytes + each.usage.up_bytes))
    )
    last = max(1, -(-len(clients) // _CLIENTS))
    number = min(whole(given, "page", 1, least=1), last)
    return page(
        "accounting.html",
        sessions=sessions,
        session=chosen,
        account=found,
        clients=clients[(number - 1) * _CLIENTS : number * _CLIENTS],
        total=len(clients),
        page=number,
        last=last,
        rounds=[] if found is None else found.rounds[::-1][:_ROUNDS],
        name_of_round=name_of_round,
    )
