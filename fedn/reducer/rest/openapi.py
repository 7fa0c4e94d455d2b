"""The OpenAPI 3.1 document of the REST API, made from its routes, their payloads and the access table."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, current_app
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from werkzeug.routing import Rule

from fedn import __version__
from fedn.network.access import ROUTE_ACCESS, Access, Gate
from fedn.protocol.rest import API_PREFIX, ProblemView
from fedn.reducer.rest.answers import arguments, reply

blueprint = Blueprint("openapi", __name__)

_ATTRIBUTE = "__openapi__"
_EXTENSION = "fedn_openapi"
_REF = "#/components/schemas/{model}"
_CONVERTERS = {"int": "integer"}
_GATES = {
    Gate.PUBLIC: "Anybody may call it.",
    Gate.ENROLMENT_SECRET: "The bearer is the enrolment secret.",
    Gate.ADMIN_SECRET: "Opened by what the body proves; for the admin secret, that is the bearer.",
    Gate.REDUCER: "Only the reducer calls it.",
}

ViewT = TypeVar("ViewT", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """What a route takes and gives."""

    summary: str
    request: type[BaseModel] | None = None
    """JSON body."""
    upload: str = ""
    """Content type of a body that is no JSON."""
    reply: type[BaseModel] | None = None
    """JSON answer."""
    text: str = ""
    """Content type of an answer that is no JSON."""
    query: tuple[str, ...] = ()
    """Names of the query's arguments."""
    status: int = 200


def describe(summary: str, **fields: Any) -> Callable[[ViewT], ViewT]:
    """Says what a route takes and gives; fields as in Operation. Every route of the API must have it."""
    operation = Operation(summary, **fields)

    def mark(view: ViewT) -> ViewT:
        setattr(view, _ATTRIBUTE, operation)
        return view

    return mark


@blueprint.get("/openapi.json")
@describe("This document", text="application/json")
def openapi() -> Response:
    arguments()
    known = current_app.extensions
    if _EXTENSION not in known:
        known[_EXTENSION] = document(current_app)
    return reply(known[_EXTENSION])


def document(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of an app's routes under /api/v1."""
    operations = list(_operations(app))
    payloads: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemView, "serialization")]
    for _, _, operation in operations:
        payloads += [(operation.request, "validation")] if operation.request else []
        payloads += [(operation.reply, "serialization")] if operation.reply else []
    references, schemas = models_json_schema(list(dict.fromkeys(payloads)), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _entry(rule, method, operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fedn reducer",
            "version": __version__,
            "description": "Errors are problem+json (RFC 9457); each code is explained in docs/reference/errors.md.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operations(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(API_PREFIX + "/"):
            operation: Operation = getattr(app.view_functions[rule.endpoint], _ATTRIBUTE)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method, operation


def _entry(rule: Rule, method: str, operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    access = ROUTE_ACCESS.get((method, rule.rule))
    parameters = [_path_parameter(kind, name) for kind, name in re.findall(r"<(?:(\w+):)?(\w+)>", rule.rule)]
    parameters += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in operation.query]
    entry: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [rule.endpoint.partition(".")[0]],
        "description": _who(access),
        "security": [] if access is Gate.PUBLIC else [{"bearer": []}],
        "parameters": parameters,
        "responses": {
            str(operation.status): _answer(operation, references),
            "default": {
                "description": "An error",
                "content": {"application/problem+json": {"schema": references[ProblemView, "serialization"]}},
            },
        },
    }
    if operation.request is not None:
        schema = references[operation.request, "validation"]
        entry["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    elif operation.upload:
        binary = {"schema": {"type": "string", "format": "binary"}}
        entry["requestBody"] = {"required": True, "content": {operation.upload: binary}}
    return entry


def _path_parameter(kind: str, name: str) -> dict[str, Any]:
    schema = {"type": _CONVERTERS.get(kind, "string")}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _answer(operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    if operation.reply is not None:
        schema = references[operation.reply, "serialization"]
        return {"description": "Done", "content": {"application/json": {"schema": schema}}}
    if operation.text:
        return {"description": "Done", "content": {operation.text: {"schema": {"type": "string"}}}}
    return {"description": "Done; no content"}


def _who(access: Access | None) -> str:
    if access is None:
        return "Nobody may call it."
    if isinstance(access, Gate):
        return _GATES[access]
    return "Roles: " + ", ".join(sorted(role.value for role in access)) + "."
