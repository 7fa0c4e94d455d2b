"""The model trail: as a table with its lineage, model by model, and its proof; and the seed that it begins with."""

from dataclasses import dataclass

from flask import Blueprint, Response

from fedn.protocol.errors import FednError, IntegrityError, NotFound
from fedn.protocol.rest import MAX_PAGE, ModelView
from fedn.protocol.trail import TrailEntry, VerifiedTrail
from fedn.reducer.pages import topics
from fedn.reducer.pages.charts import in_order
from fedn.reducer.pages.render import Page, go_to, page, respond
from fedn.reducer.pages.serve import shows
from fedn.reducer.rest import models as rest
from fedn.reducer.rest.answers import arguments, whole
from fedn.reducer.services import services

blueprint = Blueprint("models_pages", __name__)

_SHOWN = 50
_COLUMNS = 3
"""Metrics in the table."""
_ANCESTORS = 12


@dataclass(frozen=True)
class Line:
    """One entry of the trail, as the table shows it."""

    view: ModelView
    size_bytes: int | None
    validation: dict[str, float]


@shows(blueprint, "/models", topics.MODELS, programs=rest.models)
def models() -> Page:
    given = arguments("page")
    total = rest.latest_models(1)[1]
    last = max(1, -(-total // _SHOWN))
    number = min(whole(given, "page", 1, least=1), last)
    lines = _lines(_SHOWN, (number - 1) * _SHOWN)
    return page(
        "models.html",
        lines=lines,
        names=in_order(name for line in lines for name in line.validation)[:_COLUMNS],
        total=total,
        page=number,
        last=last,
    )


@shows(blueprint, "/models/<model_id>", topics.MODELS)
def model(model_id: str) -> Page:
    """One model: what it is made of, by whom, from which, and what clients found of it."""
    arguments()
    parts = services()
    entry = parts.trail.entry_of(model_id)
    records = parts.trail.validations(entry_hash=entry.hash, limit=MAX_PAGE)
    return page(
        "model.html",
        model=rest.shown(entry),
        entry=entry,
        parts=[(made.combiner, part) for made in entry.combiner_models for part in made.contributions],
        weight=sum(made.weight for made in entry.combiner_models),
        validations=records,
        names=in_order(name for record in records for name in record.metrics)[:8],
        ancestors=_ancestors(entry),
    )


@shows(blueprint, "/trail/verify")
def verify() -> Page:
    """Proves the whole trail; what is wrong with it, if anything is, is the page."""
    given = arguments("head")
    head = given.get("head", "").strip()
    verified: VerifiedTrail | None = None
    error: FednError | None = None
    try:
        verified = services().trail.verify(head or None)
    except IntegrityError as found:
        error = found
    return page("verify.html", verified=verified, error=error, head=head, key_id=services().trail.key_id)


@shows(blueprint, "/seed", topics.MODELS, topics.SESSIONS)
def seed() -> Page:
    return seed_page(None)


def seed_page(error: FednError | None) -> Page:
    values = {"lines": _lines(5, 0), "running": services().sessions.running(), "error": error}
    return Page("seed.html", values, 200 if error is None else error.http_status)


def seed_from_form() -> Response:
    try:
        view = rest.receive_seed()
    except FednError as error:
        return respond(seed_page(error))
    return go_to(f"/models/{view.model_id}")


def _lines(limit: int, offset: int) -> list[Line]:
    views, _ = rest.latest_models(limit, offset)
    return [Line(view, _size(view.model_id), rest.validation_mean(view.entry_hash)) for view in views]


def _size(model_id: str) -> int | None:
    """None where the store no longer has it."""
    try:
        return services().models.stat(model_id).size_bytes
    except NotFound:
        return None


def _ancestors(entry: TrailEntry) -> list[TrailEntry]:
    """The models that this one comes from, the nearest first."""
    trail, found = services().trail, [entry]
    while len(found) <= _ANCESTORS and found[-1].parent:
        before = trail.entries(max(0, found[-1].index - 1), 1)
        parent = before[0] if before and before[0].model_id == found[-1].parent else trail.entry_of(found[-1].parent)
        if parent.index >= found[-1].index:
            break
        found.append(parent)
    return found[1:]
