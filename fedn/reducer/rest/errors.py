"""Every error as an answer: problem+json for programs, a plain page for browsers."""

import logging
from urllib.parse import quote

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from fedn.protocol.errors import FednError, InvalidInput, LimitExceeded, NotFound, Unavailable
from fedn.protocol.rest import API_PREFIX
from fedn.reducer.pages.render import error_page, go_to
from fedn.reducer.rest.answers import problem, wants_html

log = logging.getLogger(__name__)


class _MethodNotAllowed(InvalidInput):
    http_status = 405

    allowed: tuple[str, ...] = ()
    """Methods that the address takes."""


class _TimedOut(Unavailable):
    http_status = 408


class _BadRequest(InvalidInput):
    http_status = 400


def install_errors(app: Flask) -> None:
    app.register_error_handler(FednError, _answer)
    app.register_error_handler(HTTPException, lambda error: _answer(_translated(error)))
    app.register_error_handler(ConnectionError, _broken_off)
    app.register_error_handler(TimeoutError, _broken_off)
    app.register_error_handler(Exception, _unforeseen)


def _answer(error: FednError) -> Response:
    if error.http_status >= 500:
        log.warning("%s %s: %s", request.method, request.path, error)
    page = not request.path.startswith(API_PREFIX) and wants_html()
    if page and error.http_status == 401 and request.method == "GET" and request.path != "/login":
        return go_to(f"/login?next={quote(request.full_path.rstrip('?'))}")
    return error_page(error) if page else problem(error)


def _broken_off(error: OSError) -> Response:
    """The caller stopped sending; our own peers, the stores, have errors of their own."""
    log.info("%s %s broke off: %s", request.method, request.path, error)
    return _answer(
        _TimedOut("request_broken_off", "the body did not come to its end", fix="Check the network, and send it again.")
    )


def _unforeseen(error: Exception) -> Response:
    """The boundary: a fault of ours is told without its inside, logged with it, and the reducer lives on."""
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _answer(
        FednError(
            "internal_error",
            "the reducer failed to answer this",
            fix="This is a fault of fedn: report it with the reducer's log.",
        )
    )


def _translated(error: HTTPException) -> FednError:
    """Flask's own errors, in our words."""
    where = {"call": f"{request.method} {request.path}"}
    match error.code:
        case 404:
            return NotFound(
                "no_such_route", "there is nothing at this address", fix="See /api/v1/openapi.json.", where=where
            )
        case 405:
            allowed = tuple(sorted(getattr(error, "valid_methods", None) or ()))
            refused = _MethodNotAllowed(
                "method_not_allowed",
                "this address does not take that method",
                fix=f"Use {', '.join(allowed)}.",
                where=where,
            )
            refused.allowed = allowed
            return refused
        case 413:
            return LimitExceeded(
                "upload_too_large", "the body is larger than what is taken here", fix="Send less.", where=where
            )
        case _:
            return _BadRequest("bad_request", error.description or "the request cannot be read", where=where)
