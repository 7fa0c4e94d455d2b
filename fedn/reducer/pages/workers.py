"""Worker groups: who is which rank, who is there, and what combiners relayed for them."""

from typing import Final

from flask import Blueprint

from fedn.reducer.pages import topics
from fedn.reducer.pages.render import Page, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.rest.answers import arguments, whole
from fedn.reducer.services import services

blueprint = Blueprint("worker_pages", __name__)

_ROWS: Final = 100


@shows(blueprint, "/workers", topics.WORKERS, topics.COMBINERS)
def groups() -> Page:
    """Those with the latest first."""
    given = arguments("page")
    found = sorted(services().worker_groups.list(), key=lambda group: -group.created_at)
    last = max(1, -(-len(found) // _ROWS))
    number = min(whole(given, "page", 1, least=1), last)
    return page(
        "workers.html",
        groups=found[(number - 1) * _ROWS : number * _ROWS],
        total=len(found),
        page=number,
        last=last,
    )


@shows(blueprint, "/workers/<name>", topics.WORKERS, topics.COMBINERS)
def group(name: str) -> Page:
    """One group, rank by rank."""
    given = arguments("page")
    found = services().worker_groups.get(name)
    last = max(1, -(-len(found.members) // _ROWS))
    number = min(whole(given, "page", 1, least=1), last)
    return page(
        "worker_group.html",
        group=found,
        members=found.members[(number - 1) * _ROWS : number * _ROWS],
        page=number,
        last=last,
    )
