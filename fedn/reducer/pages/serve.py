"""How a page is served: as HTML, as a stream of its changes to a browser that has it open, or as what programs get."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Flask, Response, g, request

from fedn.network.tokens import Role
from fedn.protocol.errors import LimitExceeded
from fedn.reducer.pages.live import Regions, ViewKey, Watcher
from fedn.reducer.pages.render import Page, regions, respond
from fedn.reducer.rest.answers import wants_html
from fedn.reducer.rest.gate import claims
from fedn.reducer.services import services

KEEP_ALIVE_S = 15.0
"""A stream without changes says so at this interval, so that both ends notice when the other is gone."""
_MAX_ADDRESS = 2000
_EVENT_STREAM = "text/event-stream"
_WANTED = "page_wanted"
"""In `flask.g`: the page itself is wanted, not an answer with it."""

View = Callable[..., Page]


def shows(
    blueprint: Blueprint, rule: str, *topics: str, programs: Callable[[], Response] | None = None
) -> Callable[[View], View]:
    """Serves a page at an address.

    Args:
        topics: what its `live_…` blocks are about; without any, the page does not change by itself.
        programs: answers callers that prefer JSON to a page; None: everybody gets the page.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def answer(**values: Any) -> Response:
            if g.get(_WANTED):
                g.shown = view(**values)
                return Response()
            if topics and request.accept_mimetypes.best == _EVENT_STREAM and request.method == "GET":
                return _stream(frozenset(topics))
            if programs is not None and not wants_html():
                return programs()
            return respond(view(**values))

        blueprint.get(rule)(answer)
        return view

    return decorate


def live_renderer(app: Flask) -> Callable[[ViewKey], Regions]:
    """Renders the blocks of a page that may change, outside of any request."""

    def render(key: ViewKey) -> Regions:
        # No gate: who watches was let in, and a page shows the same to everybody of a role.
        with app.test_request_context(key.path, method="GET"):
            setattr(g, _WANTED, True)
            app.dispatch_request()
            shown: Page = g.shown
            return regions(shown, key.role)

    return render


def _stream(topics: frozenset[str]) -> Response:
    """The changes of this very page, from now on, or since the last message that the browser got."""
    parts, caller = services(), claims()
    path = request.full_path.rstrip("?")
    if len(path) > _MAX_ADDRESS:
        raise LimitExceeded("address_too_long", "the page's address is too long to be watched", fix="Filter by less.")
    role = Role.ADMIN if caller.role is Role.ADMIN else Role.VIEWER
    last_seen = request.headers.get("Last-Event-ID", "")
    watcher = parts.live.watch(ViewKey(path, role), topics, last_seen)
    answer = Response(_messages(watcher, caller.expires_at), mimetype=_EVENT_STREAM)
    answer.call_on_close(watcher.close)
    parts.make_room(parts.events.subscriptions)
    return answer


def _messages(watcher: Watcher, until: float) -> Iterator[bytes]:
    """Until the login expires (Unix time `until`), the views end, or the reader is gone."""
    yield b"retry: 1000\n\n"
    while (left := until - time.time()) > 0:
        message = watcher.next(min(KEEP_ALIVE_S, left))
        if message is None:
            return
        yield message or b": nothing new\n\n"
