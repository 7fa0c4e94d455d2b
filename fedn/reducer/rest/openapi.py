"""The OpenAPI 3.1 document of the REST API, made from its routes, their payloads and the access table."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, current_app
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from werkzeug.routing import Rule

from fedn import __version__
from fedn.network.access import ROUTE_ACCESS, Access, Gate
from fedn.protocol.rest import API_PREFIX, ProblemView, as_json
from fedn.reducer.rest.answers import conditional, reply
from fedn.reducer.rest.describe import Argument, Operation, describe, operation_of
from fedn.reducer.rest.examples import example_of, path_example, problem_example

blueprint = Blueprint("openapi", __name__)

_EXTENSION = "fedn_openapi"
_REF = "#/components/schemas/{model}"
_NOT_FINITE = ["NaN", "Infinity", "-Infinity"]
_GATES = {
    Gate.PUBLIC: "Anybody may call it.",
    Gate.ENROLMENT_SECRET: "The bearer is the enrolment secret.",
    Gate.ADMIN_SECRET: "Opened by what the body proves; for the admin secret, that is the bearer.",
    Gate.REDUCER: "Only the reducer calls it.",
}
_STATUSES = {
    304: "What the caller has (If-None-Match) is still right",
    400: "The request cannot be read",
    401: "A token or secret is missing, wrong or expired",
    403: "The caller's role may not do this",
    404: "There is no such thing, or no such address",
    405: "The address does not take that method",
    408: "The body did not come to its end",
    409: "It contradicts what is there already",
    413: "The body is too large",
    415: "The body is no JSON by its Content-Type",
    422: "An argument or the body does not fit",
    429: "Too many wrong tries",
    500: "The reducer failed, or what it keeps is damaged",
    503: "Not now: a store is away, or everything is full. Try again",
}
TAGS = {
    "joining": "Enrolment, tokens, combiners, clients, and where clients attach",
    "workers": "Worker groups: make, list and delete them; where workers attach",
    "sessions": "Training runs: start, stop, resume, rounds with their ledgers, accounting, statistics",
    "models": "Global models, the trail, and what clients found of the models",
    "packages": "Compute packages, and the model store's clean-up",
    "status": "What the federation does, and its events",
    "openapi": "This document",
}


@blueprint.get("/openapi.json")
@describe("This document", text="application/json", tagged=True)
def openapi() -> Response:
    return conditional(reply(whole_document()))


def whole_document() -> dict[str, Any]:
    """The document of the app that answers, made once."""
    known = current_app.extensions
    if _EXTENSION not in known:
        known[_EXTENSION] = document(current_app)
    found: dict[str, Any] = known[_EXTENSION]
    return found


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
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "fedn reducer",
            "version": __version__,
            "summary": "The REST API of a federation's reducer.",
            "description": "Errors are problem+json (RFC 9457); their type is the address of an explanation. Lists "
            "take limit, offset, sort and filters. Times are Unix seconds, sizes bytes. JSON has no NaN: a metric "
            'that is not finite is the text "NaN", "Infinity" or "-Infinity".',
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    # Plain JSON values only: what is served is what is kept.
    plain: dict[str, Any] = json.loads(json.dumps(as_json(found)))
    _tell_numbers(plain["components"]["schemas"])
    return plain


def _tell_numbers(schema: Any) -> None:
    """Mappings of names to numbers hold the numbers, too, that JSON has no form for."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") == {"type": "number"}:
            schema["additionalProperties"] = {"anyOf": [{"type": "number"}, {"enum": _NOT_FINITE}]}
        for inner in schema.values():
            _tell_numbers(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _tell_numbers(inner)


def _operations(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(API_PREFIX + "/"):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method, operation_of(app, rule)


def _entry(rule: Rule, method: str, operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    access = ROUTE_ACCESS.get((method, rule.rule))
    names = re.findall(r"<(?:(\w+):)?(\w+)>", rule.rule)
    parameters = [_path_parameter(kind, name) for kind, name in names]
    parameters += [_parameter(name, argument) for name, argument in operation.arguments.items()]
    responses = {str(operation.status): _answer(operation, references)}
    for status in _errors(operation, access, with_path=bool(names)):
        responses[str(status)] = _error(status, references)
    entry: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [rule.endpoint.partition(".")[0]],
        "description": _who(access),
        "security": [] if access is Gate.PUBLIC else [{"bearer": []}],
        "parameters": parameters,
        "responses": responses,
    }
    if operation.request is not None:
        content = {"schema": references[operation.request, "validation"], "example": example_of(operation.request)}
        entry["requestBody"] = {"required": True, "content": {"application/json": content}}
    elif operation.upload:
        binary = {"schema": {"type": "string", "format": "binary"}}
        entry["requestBody"] = {"required": True, "content": dict.fromkeys(operation.upload, binary)}
    return entry


def _errors(operation: Operation, access: Access | None, *, with_path: bool) -> list[int]:
    """Statuses with which the operation can end besides its own."""
    found = {422, 500, 503, *operation.errors}
    if access is not Gate.PUBLIC:
        found |= {401, 403}
    if access in {Gate.ENROLMENT_SECRET, Gate.ADMIN_SECRET}:
        found.add(429)
    if with_path:
        found |= {404, 405}
    if operation.request is not None:
        found |= {400, 408, 413, 415}
    if operation.upload:
        found |= {400, 408, 413}
    if operation.tagged or operation.listing is not None:
        found.add(304)
    return sorted(found)


def _error(status: int, references: Mapping[Any, Any]) -> dict[str, Any]:
    if status == 304:
        return {"description": _STATUSES[status]}
    content = {"schema": references[ProblemView, "serialization"], "example": problem_example(status)}
    return {"description": _STATUSES[status], "content": {"application/problem+json": content}}


def _path_parameter(kind: str, name: str) -> dict[str, Any]:
    # A slash would be another address.
    schema: dict[str, Any] = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}
    if kind == "int":
        schema = {"type": "integer", "minimum": 0}
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": path_example(name)}


def _parameter(name: str, argument: Argument) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "in": argument.place,
        "description": argument.about,
        "schema": dict(argument.schema),
    }
    if argument.example:
        whole = argument.schema.get("type") == "integer"
        found["example"] = int(argument.example) if whole else argument.example
    return found


def _answer(operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if operation.tagged or operation.listing is not None:
        headers["ETag"] = {"description": "For If-None-Match.", "schema": {"type": "string"}}
    if operation.listing is not None:
        headers["Link"] = {"description": "The next and the previous page (RFC 8288).", "schema": {"type": "string"}}
    if operation.status == 201:
        headers["Location"] = {"description": "Where it is.", "schema": {"type": "string"}}
    found: dict[str, Any] = {"description": "Done" if operation.status != 204 else "Done; no content"}
    if headers:
        found["headers"] = headers
    if operation.reply is not None:
        schema = references[operation.reply, "serialization"]
        found["content"] = {"application/json": {"schema": schema, "example": example_of(operation.reply)}}
    elif operation.text == "application/json":
        found["content"] = {operation.text: {"schema": {"type": "object"}}}
    elif operation.text:
        found["content"] = {operation.text: {"schema": {"type": "string"}}}
    return found


def _who(access: Access | None) -> str:
    if access is None:
        return "Nobody may call it."
    if isinstance(access, Gate):
        return _GATES[access]
    return "Roles: " + ", ".join(sorted(role.value for role in access)) + "."
