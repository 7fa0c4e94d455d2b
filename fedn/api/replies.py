"""Calls that answer with one payload or a page of them: paths, quoting, and the check of what came back."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from fedn.api.transport import Body, Transport
from fedn.protocol.errors import FednError, InvalidInput
from fedn.protocol.rest import API_PREFIX, MAX_PAGE, Page, as_json

ModelT = TypeVar("ModelT", bound=BaseModel)
ItemT = TypeVar("ItemT")


def api_path(*parts: str) -> str:
    """The path of a route of version 1; each part is quoted as one segment."""
    return "/".join((API_PREFIX, *(quote(part, safe="") for part in parts)))


def call(
    transport: Transport,
    method: str,
    path: str,
    reply: type[ModelT],
    *,
    payload: BaseModel | None = None,
    body: Body | None = None,
    content_type: str = "application/octet-stream",
    query: Mapping[str, object | None] | None = None,
    bearer: str | None = None,
    key: str = "",
) -> ModelT:
    """One request whose answer is a `reply`. FednError (`bad_reply`) where it is something else."""
    if payload is not None:
        answer = transport.json(method, path, payload=as_json(payload), query=query, bearer=bearer, key=key)
    else:
        answer = transport.json(method, path, body=body, content_type=content_type, query=query, bearer=bearer)
    return parse_reply(reply, answer, path)


def all_pages(
    transport: Transport, path: str, page: type[Page[ItemT]], query: Mapping[str, object | None] | None = None
) -> Iterator[ItemT]:
    """Every item of a list, page by page."""
    offset = 0
    while True:
        part = call(transport, "GET", path, page, query={**(query or {}), "limit": MAX_PAGE, "offset": offset})
        yield from part.items
        offset += len(part.items)
        if not part.items or offset >= part.total:
            return


def parse_reply(reply: type[ModelT], answer: Any, path: str) -> ModelT:
    """The answer as the payload that it must be."""
    try:
        return reply.model_validate(answer)
    except ValidationError as error:
        fault = error.errors()[0]
        raise FednError(
            "bad_reply",
            f"the reducer's answer is no {reply.__name__}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}",
            fix="Reducer and caller have different versions of fedn: install the same.",
            where={"path": path},
        ) from error


def payload_of(model: type[ModelT], **fields: Any) -> ModelT:
    """A payload from its fields. InvalidInput (`bad_argument`) names every field that does not fit."""
    try:
        return model(**fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise InvalidInput("bad_argument", f"{model.__name__} cannot be made: {faults}", fix="Correct them.") from error
