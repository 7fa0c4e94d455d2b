"""What each route of the API says of itself: what it takes, what it gives, and with which statuses it can end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from flask import Flask, request
from pydantic import BaseModel
from werkzeug.routing import Rule

from fedn.protocol.rest import API_PREFIX, MAX_PAGE
from fedn.reducer.rest.answers import arguments
from fedn.reducer.rest.lists import DEFAULT_PAGE, MAX_FILTER_CHARS, Listing

_ATTRIBUTE = "__openapi__"

ViewT = TypeVar("ViewT", bound=Callable[..., Any])

WHOLE = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_FILTER_CHARS}


@dataclass(frozen=True)
class Argument:
    """An argument of a query, or a header."""

    about: str
    schema: Mapping[str, Any]
    place: str = "query"
    """Or `header`."""
    example: str = ""


@dataclass(frozen=True)
class Operation:
    """What a route takes and gives."""

    summary: str
    request: type[BaseModel] | None = None
    """JSON body."""
    upload: tuple[str, ...] = ()
    """Content types of a body that is no JSON; any other is taken as its bytes too."""
    reply: type[BaseModel] | None = None
    """JSON answer."""
    text: str = ""
    """Content type of an answer that is no JSON."""
    query: Mapping[str, Argument] = field(default_factory=dict)
    """The arguments by name, those of `listing` apart."""
    listing: Listing | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    """Statuses of errors besides those that follow from the rest."""
    tagged: bool = False
    """Whether it has an ETag, and so can answer 304."""

    @property
    def arguments(self) -> dict[str, Argument]:
        """All of them, in the order of the document."""
        return {**(listing_arguments(self.listing) if self.listing else {}), **self.query}


def describe(summary: str, **fields: Any) -> Callable[[ViewT], ViewT]:
    """Says what a route takes and gives; fields as in Operation. Every route of the API must have it."""
    operation = Operation(summary, **fields)

    def mark(view: ViewT) -> ViewT:
        setattr(view, _ATTRIBUTE, operation)
        return view

    return mark


def operation_of(app: Flask, rule: Rule) -> Operation:
    """What the route says of itself."""
    found: Operation = getattr(app.view_functions[rule.endpoint], _ATTRIBUTE)
    return found


def install_argument_check(app: Flask) -> None:
    """Refuses arguments that a route of the API does not have: one that is misspelt shall not be passed over."""

    def check() -> None:
        rule = request.url_rule
        if rule is not None and rule.rule.startswith(f"{API_PREFIX}/"):
            known = operation_of(app, rule).arguments
            arguments(*(name for name, argument in known.items() if argument.place == "query"))

    app.before_request(check)


def listing_arguments(listing: Listing) -> dict[str, Argument]:
    """limit, offset, sort, and the filters."""
    order = [sign + name for name in listing.sorts for sign in ("", "-")]
    found = {
        "limit": Argument(
            "Items of the page at the most.",
            {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
            example="10",
        ),
        "offset": Argument("Items before the page.", {**WHOLE, "default": 0}),
        "sort": Argument(
            "Field to sort by; with - before it, the other way round.",
            {"type": "string", "enum": order, "default": listing.order},
            example=listing.order,
        ),
    }
    for name, kind in listing.filters.items():
        found[name] = Argument(f"Only items whose {name} is this.", _filter_schema(kind))
    return found


def _filter_schema(kind: type[str] | type[bool] | type[StrEnum]) -> dict[str, Any]:
    if kind is bool:
        return {"type": "boolean"}
    if issubclass(kind, StrEnum):
        return {"type": "string", "enum": [str(member) for member in kind]}
    return dict(TEXT)
