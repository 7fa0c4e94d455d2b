"""Lists, all in one way: `limit`, `offset`, `sort`, and filters by name; the answer says the total and links its pages.

A route declares what it can be sorted and filtered by (`Listing`, which the OpenAPI document tells too), and reads what
a request asks of it (`read_query`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import Response, request
from pydantic import BaseModel

from fedn.protocol.errors import InvalidInput
from fedn.protocol.rest import MAX_PAGE
from fedn.reducer.rest.answers import arguments, conditional, reply, whole
from fedn.stores.base import Scalar

DEFAULT_PAGE = 100
MAX_FILTER_CHARS = 256

ItemT = TypeVar("ItemT", bound=BaseModel)

FilterKind = type[str] | type[bool] | type[StrEnum]


@dataclass(frozen=True)
class Listing:
    """What a list can do."""

    sorts: tuple[str, ...]
    """Fields that it can be sorted by."""
    order: str
    """Unless asked otherwise: a field of `sorts`, with "-" before it for descending."""
    filters: Mapping[str, FilterKind] = field(default_factory=dict)
    """Fields whose value can be asked for, and what values they have."""

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("limit", "offset", "sort", *self.filters)


@dataclass(frozen=True)
class ListQuery:
    """What a request asks of a list."""

    limit: int
    offset: int
    order_by: str
    descending: bool
    where: Mapping[str, Scalar]

    @property
    def window(self) -> dict[str, Any]:
        """Order and page, as arguments of `StateStore.find`, for fields that documents have at their top."""
        return {
            "order_by": self.order_by,
            "descending": self.descending,
            "limit": self.limit,
            "offset": self.offset,
        }

    def page_of(self, views: Iterable[ItemT]) -> tuple[list[ItemT], int]:
        """(the page, number of all) of views that are here as a whole, in an order that ties are left in."""
        fitting = [view for view in views if all(getattr(view, name) == value for name, value in self.where.items())]
        fitting.sort(key=lambda view: getattr(view, self.order_by), reverse=self.descending)
        return fitting[self.offset : self.offset + self.limit], len(fitting)


def read_query(listing: Listing) -> ListQuery:
    """What the request asks of the list.

    Raises:
        InvalidInput: `unknown_argument`, or `bad_argument` for a value that an argument cannot have.
    """
    given = arguments(*listing.arguments)
    order = given.get("sort", listing.order)
    order_by = order.removeprefix("-")
    if order_by not in listing.sorts:
        raise _bad("sort", order, f"Sort by {', '.join(listing.sorts)}; with - before it, the other way round.")
    return ListQuery(
        limit=whole(given, "limit", DEFAULT_PAGE, least=1, most=MAX_PAGE),
        offset=whole(given, "offset", 0),
        order_by=order_by,
        descending=order.startswith("-"),
        where={name: _value(kind, name, given[name]) for name, kind in listing.filters.items() if name in given},
    )


def _value(kind: FilterKind, name: str, text: str) -> Scalar:
    if kind is bool:
        if text not in {"true", "false"}:
            raise _bad(name, text, "Give true or false.")
        return text == "true"
    if issubclass(kind, StrEnum):
        known = [str(member) for member in kind]
        if text not in known:
            raise _bad(name, text, f"Give one of {', '.join(known)}.")
    elif not 1 <= len(text) <= MAX_FILTER_CHARS:
        raise _bad(name, text, f"Give 1 to {MAX_FILTER_CHARS} characters.")
    return text


def _bad(name: str, text: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_argument", f"{name} is {text[:40]!r}", fix=fix, where={"field": name})


def listed(items: Sequence[Any], total: int, query: ListQuery) -> Response:
    """One page of a list, with links to its neighbours (RFC 8288)."""
    answer = reply({"items": items, "total": total, "offset": query.offset, "limit": query.limit})
    links = []
    if query.offset + query.limit < total:
        links.append(_link("next", query.offset + query.limit))
    if query.offset > 0:
        links.append(_link("prev", max(0, query.offset - query.limit)))
    if links:
        answer.headers["Link"] = ", ".join(links)
    return conditional(answer)


def _link(relation: str, offset: int) -> str:
    given = {**request.args.to_dict(), "offset": str(offset)}
    return f'<{request.path}?{urlencode(given)}>; rel="{relation}"'
