"""Status of the federation, and its events: as a list, or as server-sent events while they happen."""

import time
from collections.abc import Iterator

from flask import Blueprint, Response, request

from fedn import __version__
from fedn.network.tokens import Role
from fedn.protocol.rest import MAX_PAGE, EventList, StatusView
from fedn.protocol.trail import GENESIS
from fedn.reducer.events import EventLog, Subscription
from fedn.reducer.rest.answers import arguments, reply, whole
from fedn.reducer.rest.describe import TEXT, WHOLE, Argument, describe
from fedn.reducer.rest.gate import claims
from fedn.reducer.services import services

blueprint = Blueprint("status", __name__)

_AFTER = Argument("Only events with a greater number: `last` of the answer before.", WHOLE)
_LIMIT = Argument(
    "Events looked at, at the most.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE}
)
_KIND = Argument("Only events of this kind, of those looked at.", TEXT, example="round_committed")

KEEP_ALIVE_S = 15.0
"""A stream without events says so at this interval, so that both ends notice when the other is gone."""


@blueprint.get("/status")
@describe("What the federation does now", reply=StatusView)
def status() -> Response:
    return reply(status_view())


def status_view() -> StatusView:
    parts = services()
    head = parts.trail.head()
    running = parts.sessions.running()
    combiners = parts.registry.combiners()
    package = parts.catalog.active()
    return StatusView(
        federation=parts.settings.federation,
        version=__version__,
        state="idle" if running is None else "running",
        session="" if running is None else running.id,
        epoch=parts.epoch,
        started_at=parts.started_at,
        combiners=len(combiners),
        combiners_alive=sum(record.alive for record in combiners),
        clients=parts.enrolment.count(Role.CLIENT),
        clients_attached=len(parts.sessions.roster),
        trail_length=0 if head is None else head.index + 1,
        trail_head=GENESIS if head is None else head.hash,
        model_id="" if head is None else head.model_id,
        package_id="" if package is None else package.package_id,
        stores=parts.health.check(),
    )


@blueprint.get("/events")
@describe(
    "Events after a number; with `Accept: text/event-stream`, as they happen",
    reply=EventList,
    query={"after": _AFTER, "limit": _LIMIT, "kind": _KIND},
)
def events() -> Response:
    given = arguments("after", "limit", "kind")
    last_seen = request.headers.get("Last-Event-ID") or given.get("after")
    after = whole({"after": last_seen} if last_seen else {}, "after", -1)
    if request.accept_mimetypes.best == "text/event-stream" and request.method == "GET":
        return _stream(after)
    limit = whole(given, "limit", MAX_PAGE, least=1, most=MAX_PAGE)
    found = services().events.after(max(after, 0), limit)
    last = found[-1].number if found else max(after, 0)
    kind = given.get("kind")
    return reply(EventList(events=tuple(event for event in found if kind in {None, event.kind}), last=last))


def _stream(after: int) -> Response:
    """Server-sent events; without a place to go on from, those from now on."""
    parts = services()
    subscription = parts.events.subscribe(None if after < 0 else after)
    answer = Response(_messages(parts.events, subscription, claims().expires_at), mimetype="text/event-stream")
    answer.call_on_close(subscription.close)
    parts.make_room(parts.events.subscriptions)
    return answer


def _messages(log: EventLog, subscription: Subscription, until: float) -> Iterator[bytes]:
    """Until the token expires (Unix time `until`), the log stops, or the reader is gone."""
    yield b"retry: 1000\n\n"
    while (left := until - time.time()) > 0:
        found = subscription.next(min(KEEP_ALIVE_S, left))
        if found is None:
            return
        yield b"".join(map(log.message, found)) or b": nothing new\n\n"
