"""Where the time of a session went: by round and by client."""

from typing import Final

from flask import Blueprint

from fedn.protocol.rest import SessionStatistics
from fedn.reducer.pages import topics
from fedn.reducer.pages.participation import name_of_round
from fedn.reducer.pages.render import Page, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.pages.timeline import Bar, bars
from fedn.reducer.rest.answers import arguments, whole
from fedn.reducer.services import services

blueprint = Blueprint("times", __name__)

_CLIENTS: Final = 100
_ROUNDS: Final = 50
_SESSIONS: Final = 50
_BAR: Final = 100
"""Width of the longest bar, in units of its view box."""


@shows(blueprint, "/times", topics.ROUNDS, topics.SESSIONS)
def times() -> Page:
    """The chosen, the running or the latest session; those who kept others waiting first."""
    given = arguments("session", "page")
    known = services().sessions
    sessions = known.list(_SESSIONS)
    chosen = known.chosen(given.get("session"))
    found = None if chosen is None else services().watching.times.of(chosen.id).closed(chosen)
    clients = [] if found is None else sorted(found.clients, key=lambda each: -each.busy_ms)
    last = max(1, -(-len(clients) // _CLIENTS))
    number = min(whole(given, "page", 1, least=1), last)
    shown = clients[(number - 1) * _CLIENTS : number * _CLIENTS]
    return page(
        "times.html",
        sessions=sessions,
        session=chosen,
        times=found,
        clients=shown,
        bars=_bars(found, [each.client for each in shown]),
        total=len(clients),
        page=number,
        last=last,
        rounds=[] if found is None else found.rounds[::-1][:_ROUNDS],
        name_of_round=name_of_round,
    )


def _bars(found: SessionStatistics | None, names: list[str]) -> dict[str, tuple[Bar, ...]]:
    """For each client, what it did of the time that its rounds took: the longest of all is as wide as the column."""
    if found is None:
        return {}
    parts = {
        each.client: {
            "training": each.train_ms / 1e3,
            "evaluation": each.validate_ms / 1e3,
            "other": max(0.0, each.busy_ms - each.train_ms - each.validate_ms) / 1e3,
            "waiting": each.idle_ms / 1e3,
        }
        for each in found.clients
    }
    longest = max((sum(each.values()) for each in parts.values()), default=0.0)
    return {name: bars(parts[name], _BAR, longest) for name in names}
