"""Between HTTP and payloads: reads arguments and bodies, writes JSON. Every fault of a request is told at once."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from flask import Response, request
from pydantic import BaseModel, ValidationError

from fedn.models.digest import digest
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings
from fedn.protocol.rest import as_json
from fedn.reducer.services import services

ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_JSON_BYTES = 4 << 20
MAX_STRANGERS_BYTES = 64 << 10
"""Of a body that is read before its sender has proved who he is."""
_JSON_TYPES = frozenset({"application/json", ""})
"""Of a body; a caller that says nothing is taken at its bytes."""
_MAX_JSON_DEPTH = 64
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_LARGEST_WHOLE = (1 << 63) - 1
"""What every store can count to."""


class UnsupportedType(InvalidInput):
    """A body of another type than the call takes."""

    http_status = 415


def reply(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    text = json.dumps(as_json(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text + "\n", status, headers, mimetype="application/json")


def conditional(answer: Response) -> Response:
    """The answer with its ETag, or 304 for a caller that has it already. It is asked for again each time."""
    return tagged(answer, digest(answer.get_data()).partition(":")[2][:32], keep="no-cache")


def tagged(answer: Response, tag: str, *, keep: str) -> Response:
    """As `conditional`, with a tag that is known without the body, and what caches may do with it (Cache-Control)."""
    answer.set_etag(tag)
    answer.headers["Cache-Control"] = f"private, {keep}"
    answer.make_conditional(request)
    return answer


def has(tag: str) -> bool:
    """Whether the caller has what the tag names, and asks for anything else only."""
    return request.method in {"GET", "HEAD"} and request.if_none_match.contains_weak(tag)


def created(payload: Any, location: str) -> Response:
    return reply(payload, 201, {"Location": location})


def nothing() -> Response:
    return Response(status=204)


def problem(error: FednError) -> Response:
    """The error as problem+json."""
    answer = reply(_linked(error.as_problem(), services().settings.docs_url.rstrip("/")), error.http_status)
    answer.mimetype = "application/problem+json"
    if error.http_status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    allowed: tuple[str, ...] = getattr(error, "allowed", ())
    if allowed:
        answer.headers["Allow"] = ", ".join(allowed)
    if error.retryable:
        answer.headers["Retry-After"] = "1"
    return answer


def _linked(told: dict[str, Any], docs_url: str) -> dict[str, Any]:
    """The problem, with its explanation's address in the documentation where the settings say where that is."""
    if not docs_url:
        return told
    inner = [_linked(problem, docs_url) for problem in told.get("problems", ())]
    more = {"problems": inner} if inner else {}
    return {**told, **more, "type": f"{docs_url}/reference/errors/#{told['code']}"}


def body(model: type[ModelT], *, max_bytes: int = MAX_JSON_BYTES) -> ModelT:
    """The request's JSON body as a payload.

    Raises:
        InvalidInput: (`bad_json`) it is no JSON object.
        InvalidSettings: every field that does not fit, each with code `bad_field`.
        LimitExceeded: (`upload_too_large`) more than `max_bytes`.
        UnsupportedType: (`unsupported_media_type`) it says to be something else than JSON.
    """
    if request.mimetype not in _JSON_TYPES:
        raise UnsupportedType(
            "unsupported_media_type",
            f"the body is of type {request.mimetype[:80]!r}",
            fix="Send JSON, with the header `Content-Type: application/json`.",
            where={"call": request.path},
        )
    return payload_of(model, json_object(max_bytes))


def json_object(max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The request's JSON body, {} where it is empty. What it holds can be kept, and told again as JSON."""
    request.max_content_length = max_bytes
    text = request.get_data(cache=False)
    if not text:
        return {}
    try:
        value = json.loads(text)
        _check_depth(value)
        # Neither NaN nor half a surrogate pair is JSON, though Python reads both.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidInput("bad_json", f"the body is no JSON: {error}", fix="Send a JSON object.") from error
    if not isinstance(value, dict):
        raise InvalidInput("bad_json", "the body is no JSON object", fix='Send a JSON object: {"name": …}.')
    return value


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(_MAX_JSON_DEPTH):
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_MAX_JSON_DEPTH} deep")


def _inside(item: object) -> Iterable[object]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def payload_of(model: type[ModelT], values: Mapping[str, Any], *, what: str = "the request") -> ModelT:
    """The values as a payload. InvalidSettings with every fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems: list[FednError] = [
            InvalidInput(
                "bad_field",
                detail["msg"].removeprefix("Value error, "),
                fix="See the fields in GET /api/v1/openapi.json.",
                where={"field": ".".join(map(str, detail["loc"])) or "(whole)"},
            )
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidSettings(problems, what=what) from error


def arguments(*known: str) -> dict[str, str]:
    """The query's arguments. InvalidInput (`unknown_argument`) where there is another one than `known`."""
    given = request.args.to_dict()
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise InvalidInput(
            "unknown_argument",
            f"this call has no argument {unknown[0]!r}",
            fix=f"It has: {', '.join(known)}." if known else "It has none.",
            where={"call": request.path},
        )
    return given


def whole(given: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int = _LARGEST_WHOLE) -> int:
    """A whole number from the query. InvalidInput (`bad_argument`)."""
    text = given.get(name)
    if text is None:
        return default
    try:
        if not _WHOLE.fullmatch(text):
            raise ValueError
        value = int(text)
        if not least <= value <= most:
            raise ValueError
    except ValueError as error:
        raise InvalidInput(
            "bad_argument",
            f"{name} is {text[:40]!r}",
            fix=f"Give a whole number from {least} to {most}.",
            where={"field": name},
        ) from error
    return value


def wants_html() -> bool:
    """Whether a browser asks: one that prefers a page to JSON."""
    best = request.accept_mimetypes.best_match(["application/json", "text/html"], "application/json")
    return best == "text/html"
