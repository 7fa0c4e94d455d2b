"""Renders templates, with what every page needs: who is logged in, and the token for its forms."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, current_app
from jinja2 import Template

from fedn import __version__
from fedn.network.tokens import Role
from fedn.protocol.errors import FednError
from fedn.reducer.pages import formats
from fedn.reducer.rest.gate import CSRF_FIELD, csrf_token, known_claims
from fedn.reducer.services import services

_LIVE = "live_"
_MACROS = "ui.html"


@dataclass(frozen=True)
class Page:
    """What a page shows, not rendered yet."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    http_status: int = 200


def page(template: str, /, **values: Any) -> Page:
    return Page(template, values)


def install_templates(app: Flask) -> None:
    """Gives every template the macros of ui.html as `ui`, and the formats of people as filters."""
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(formats.FILTERS)
    app.jinja_env.globals["version"] = __version__
    app.jinja_env.globals["ui"] = app.jinja_env.get_template(_MACROS).module


def html(template: str, /, http_status: int = 200, **values: Any) -> Response:
    """A page from `templates/`."""
    return respond(Page(template, values, http_status))


def respond(shown: Page) -> Response:
    caller = known_claims()
    live = bool(live_blocks(_template(shown))) and caller is not None and shown.http_status == 200
    text = _template(shown).render(
        _context(shown, None if caller is None else caller.role),
        csrf_token="" if caller is None else csrf_token(caller),
        live=live,
    )
    return Response(text, shown.http_status, mimetype="text/html")


def regions(shown: Page, role: Role) -> dict[str, str]:
    """The blocks of a page that may change, by name, as everybody of that role sees them.

    Their forms carry no CSRF token: it belongs to one login, and the page fills it in.
    """
    template = _template(shown)
    context = template.new_context({**_context(shown, role), "csrf_token": "", "live": True})
    return {name.removeprefix(_LIVE): "".join(template.blocks[name](context)) for name in live_blocks(template)}


def live_blocks(template: Template) -> list[str]:
    return [name for name in template.blocks if name.startswith(_LIVE)]


def _template(shown: Page) -> Template:
    return current_app.jinja_env.get_template(shown.template)


def _context(shown: Page, role: Role | None) -> dict[str, Any]:
    return {
        "federation": services().settings.federation,
        "role": "" if role is None else role.value,
        "is_admin": role is Role.ADMIN,
        "csrf_field": CSRF_FIELD,
        "csrf_token": "",
        "now": dt.datetime.now(dt.UTC).timestamp(),
        **shown.values,
    }


def go_to(path: str) -> Response:
    """Leads a browser to one of our pages, to be fetched by GET."""
    return Response(status=303, headers={"Location": path})


def error_page(error: FednError) -> Response:
    return html("error.html", error.http_status, error=error)
