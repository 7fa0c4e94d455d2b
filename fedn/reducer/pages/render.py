"""Renders templates, with what every page needs: who is logged in, and the token for its forms."""

import datetime as dt
from typing import Any

from flask import Response, current_app

from fedn.network.tokens import Role
from fedn.protocol.errors import FednError
from fedn.reducer.rest.gate import CSRF_FIELD, csrf_token, known_claims
from fedn.reducer.services import services


def html(template: str, /, http_status: int = 200, **values: Any) -> Response:
    """A page from `templates/`."""
    caller = known_claims()
    text = current_app.jinja_env.get_template(template).render(
        federation=services().settings.federation,
        caller=caller,
        is_admin=caller is not None and caller.role is Role.ADMIN,
        csrf_field=CSRF_FIELD,
        csrf_token="" if caller is None else csrf_token(caller),
        at=_time,
        **values,
    )
    return Response(text, http_status, mimetype="text/html")


def go_to(path: str) -> Response:
    """Leads a browser to one of our pages, to be fetched by GET."""
    return Response(status=303, headers={"Location": path})


def error_page(error: FednError) -> Response:
    return html("error.html", error.http_status, error=error)


def _time(unix_s: float | None) -> str:
    """A time for people, UTC."""
    return "" if unix_s is None else f"{dt.datetime.fromtimestamp(unix_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
