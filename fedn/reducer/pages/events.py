"""The log of events, with filters; a browser adds those that come from the reducer's own stream."""

import json
from collections.abc import Mapping

from flask import Blueprint, Response

from fedn.protocol.rest import MAX_PAGE, EventView
from fedn.reducer.events import KEPT_EVENTS
from fedn.reducer.pages.render import Page, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.pages.topics import KINDS
from fedn.reducer.rest.answers import arguments, reply, whole
from fedn.reducer.services import services

blueprint = Blueprint("event_pages", __name__)

_SHOWN = 100


def for_programs() -> Response:
    """The latest events, in order."""
    limit = whole(arguments("limit"), "limit", _SHOWN, least=1, most=MAX_PAGE)
    return reply({"events": services().events.latest(limit)})


@shows(blueprint, "/events", programs=for_programs)
def events() -> Page:
    wanted = arguments("kind", "session", "client", "text", "limit")
    log = services().events
    last, every = log.last, log.latest(KEPT_EVENTS)
    found = [event for event in reversed(every) if fits(event, wanted)][:_SHOWN]
    return page(
        "events.html",
        events=found,
        wanted=wanted,
        kinds=sorted(KINDS | {event.kind for event in every}),
        last=max(last, every[-1].number if every else 0),
        filtered=any(wanted.get(name) for name in ("kind", "session", "client", "text")),
    )


def fits(event: EventView, wanted: Mapping[str, str]) -> bool:
    """Whether an event is among those that the filters leave; static/js/events.js says the same of new ones."""
    if wanted.get("kind") and event.kind != wanted["kind"]:
        return False
    for name in ("session", "client"):
        if wanted.get(name) and str(event.fields.get(name, "")) != wanted[name]:
            return False
    text = wanted.get("text", "").strip().lower()
    whole_text = f"{event.kind} {json.dumps(event.fields, ensure_ascii=False, separators=(',', ':'))}"
    return text in whole_text.lower()
