"""Reference that works offline: what error codes mean (the `type` of every problem leads here), and the REST API."""

from flask import Blueprint, Response

from fedn.protocol.explain import explain, explanations
from fedn.reducer.pages.render import html
from fedn.reducer.rest.answers import arguments, reply, wants_html
from fedn.reducer.rest.openapi import whole_document

blueprint = Blueprint("reference", __name__)


@blueprint.get("/errors")
def error_codes() -> Response:
    """Every code; for programs as JSON."""
    arguments()
    found = list(explanations().values())
    return html("error_codes.html", codes=found) if wants_html() else reply({"items": found, "total": len(found)})


@blueprint.get("/errors/<code>")
def error_code(code: str) -> Response:
    """One code. NotFound (`no_such_code`)."""
    arguments()
    found = explain(code)
    return html("error_code.html", one=found) if wants_html() else reply(found)


@blueprint.get("/api")
def api() -> Response:
    """The OpenAPI document, for people."""
    arguments()
    return html("api.html", document=whole_document())
