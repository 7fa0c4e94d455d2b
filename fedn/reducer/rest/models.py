"""Models and the trail: list, show, download, seed, verify; and what clients found of the models."""

import threading
from collections.abc import Iterator

from flask import Blueprint, Response

from fedn.models.encrypted import is_encrypted, plain_entries, read_encrypted
from fedn.models.files import to_npz
from fedn.models.wire import decode
from fedn.protocol.errors import Conflict, InvalidInput, NotFound
from fedn.protocol.rest import (
    API_PREFIX,
    MAX_PAGE,
    ModelPage,
    ModelView,
    TensorView,
    TrailKey,
    TrailPage,
    TrailVerification,
    ValidationPage,
)
from fedn.protocol.tasks import weighted_mean
from fedn.protocol.trail import EntryKind, TrailEntry
from fedn.reducer.rest.answers import arguments, conditional, created, has, reply, tagged
from fedn.reducer.rest.describe import TEXT, Argument, describe
from fedn.reducer.rest.lists import Listing, ListQuery, listed, read_query
from fedn.reducer.rest.transfers import KEPT_FOR_EVER, stored_object, uploaded
from fedn.reducer.services import services

blueprint = Blueprint("models", __name__)

_MODELS = Listing(("index",), "-index", {"session": str, "kind": EntryKind})
_TRAIL = Listing(("index",), "index", {"session": str, "kind": EntryKind})
_VALIDATIONS = Listing(("time", "client"), "time", {"session": str, "client": str, "model_id": str})
_FORMAT = Argument("Of the file.", {"type": "string", "enum": ["safetensors", "npz"], "default": "safetensors"})
_HEAD = Argument("Hash of an entry seen earlier, which must be there still.", TEXT)

_converting = threading.Lock()
"""One model at a time is held in memory for its conversion to npz."""


@blueprint.get("/models")
@describe("List global models, the latest first", reply=ModelPage, listing=_MODELS)
def models() -> Response:
    query, chain = read_query(_MODELS), services().trail
    found, total = _entries(query)
    head = chain.head()
    return listed([_view(entry, head=head is not None and entry.hash == head.hash) for entry in found], total, query)


def _entries(query: ListQuery) -> tuple[list[TrailEntry], int]:
    """(a page of the trail's entries, number of all that fit)."""
    chain = services().trail
    head = chain.head()
    length = 0 if head is None else head.index + 1
    if query.where:
        fitting = [
            entry.index
            for entry in chain.iterate()
            if all(getattr(entry, name) == value for name, value in query.where.items())
        ]
        wanted = (fitting[::-1] if query.descending else fitting)[query.offset : query.offset + query.limit]
        return [chain.entries(index, 1)[0] for index in wanted], len(fitting)
    first = query.offset
    count = max(0, min(query.limit, length - first))
    if query.descending:
        return chain.entries(length - first - count, count)[::-1] if count else [], length
    return chain.entries(first, count) if count else [], length


def latest_models(limit: int, offset: int = 0) -> tuple[list[ModelView], int]:
    """(models from the latest on, number of all)."""
    trail = services().trail
    head = trail.head()
    total = 0 if head is None else head.index + 1
    stop = max(0, total - offset)
    start = max(0, stop - limit)
    entries = trail.entries(start, stop - start) if stop > start else []
    return [_view(entry, head=entry.index == total - 1) for entry in reversed(entries)], total


@blueprint.post("/models")
@describe(
    "Seed: upload a model (safetensors or npz) that becomes the global model",
    upload=("application/octet-stream",),
    reply=ModelView,
    status=201,
    errors=(409,),
)
def seed() -> Response:
    view = receive_seed()
    return created(view, view.links["self"])


def receive_seed() -> ModelView:
    """Takes the seed in the request: its raw body, or the file `seed` of a form.

    Raises:
        Conflict: (`session_running`) a running session goes on from the model that is there.
        InvalidInput: what is wrong with the file.
    """
    parts = services()
    running = parts.sessions.running()
    if running is not None:
        raise Conflict(
            "session_running",
            "while a session runs, no seed can take the place of its model",
            fix=f"Wait for its end, or stop it: fedn session stop {running.id}",
            where={"session": running.id},
        )
    with uploaded("seed", what="model", max_bytes=int(parts.settings.max_model_bytes)) as path:
        entry = parts.catalog.add_seed_file(path)
    return shown(entry)


@blueprint.get("/models/<model_id>")
@describe("Show a model: its tensors, and what clients found of it", reply=ModelView, tagged=True)
def show(model_id: str) -> Response:
    return conditional(reply(shown(services().trail.entry_of(model_id))))


@blueprint.get("/models/<model_id>/download")
@describe("Download a model", text="application/octet-stream", query={"format": _FORMAT}, tagged=True)
def download(model_id: str) -> Response:
    wanted = arguments("format").get("format", "safetensors")
    services().trail.entry_of(model_id)
    file_name = f"{model_id.partition(':')[2][:16]}.{wanted}"
    if wanted == "safetensors":
        return stored_object(model_id, file_name)
    if wanted == "npz":
        _refuse_encrypted(model_id)
        tag = f"{model_id}.npz"
        answer = Response() if has(tag) else _as_npz(model_id, file_name)
        return tagged(answer, tag, keep=KEPT_FOR_EVER)
    raise InvalidInput(
        "bad_argument",
        f"there is no model format {wanted[:40]!r}",
        fix="Use safetensors or npz.",
        where={"field": "format"},
    )


def _refuse_encrypted(model_id: str) -> None:
    if is_encrypted(services().catalog.model_spec(model_id)):
        raise InvalidInput(
            "model_is_encrypted",
            "the model is encrypted, and npz cannot say how",
            fix="fedn model download --key FILE --out model.npz",
            where={"field": "format"},
        )


def _as_npz(model_id: str, file_name: str) -> Response:
    with _converting:
        data = to_npz(decode(b"".join(services().models.read(model_id))))
    answer = Response(_pieces(data), mimetype="application/octet-stream")
    answer.content_length = len(data)
    answer.headers.set("Content-Disposition", "attachment", filename=file_name)
    return answer


def _pieces(data: memoryview, size: int = 1 << 20) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield bytes(data[start : start + size])


def _view(entry: TrailEntry, *, head: bool) -> ModelView:
    own = f"{API_PREFIX}/models/{entry.model_id}"
    return ModelView(
        model_id=entry.model_id,
        index=entry.index,
        entry_hash=entry.hash,
        kind=entry.kind,
        session=entry.session,
        round=entry.round,
        parent=entry.parent,
        time=entry.time,
        metrics=entry.metrics,
        contributions=sum(len(model.contributions) for model in entry.combiner_models),
        head=head,
        links={"self": own, "download": f"{own}/download"},
    )


def validation_mean(entry_hash: str) -> dict[str, float]:
    """What clients found of a trail entry's model: means by examples."""
    records = services().trail.validations(entry_hash=entry_hash, limit=MAX_PAGE)
    return weighted_mean([(record.num_examples or 1, record.metrics) for record in records])


def shown(entry: TrailEntry) -> ModelView:
    """A model with its tensors, and what clients found of it."""
    parts = services()
    latest = parts.trail.head()
    validations = parts.trail.validations(entry_hash=entry.hash, limit=MAX_PAGE)
    found = {
        "validation": weighted_mean([(record.num_examples or 1, record.metrics) for record in validations]),
        "num_validations": len(validations),
    }
    try:
        spec = parts.catalog.model_spec(entry.model_id)
    except NotFound:
        pass
    else:
        tensors = (TensorView(name=name, dtype=str(dtype), shape=shape) for name, dtype, shape in plain_entries(spec))
        key_id = read_encrypted(spec).parameters.key_id if is_encrypted(spec) else ""
        found |= {"size_bytes": spec.size_bytes, "tensors": tuple(tensors), "encrypted_with": key_id}
    return _view(entry, head=latest is not None and latest.hash == entry.hash).model_copy(update=found)


# The trail


@blueprint.get("/trail")
@describe("Entries of the trail, by index", reply=TrailPage, listing=_TRAIL)
def trail() -> Response:
    query = read_query(_TRAIL)
    return listed(*_entries(query), query)


@blueprint.get("/trail/verify")
@describe("Check the whole trail", reply=TrailVerification, query={"head": _HEAD}, errors=(409,))
def verify() -> Response:
    head = arguments("head").get("head")
    chain = services().trail
    verified = chain.verify(head or None)
    return reply(
        TrailVerification(federation=chain.federation, length=verified.length, head=verified.head, key_id=chain.key_id)
    )


@blueprint.get("/trail/key")
@describe("Whose signatures the trail bears", reply=TrailKey)
def trail_key() -> Response:
    chain = services().trail
    public_key = chain.public_key_pem.decode("ascii")
    return reply(TrailKey(federation=chain.federation, key_id=chain.key_id, public_key=public_key))


@blueprint.get("/validations")
@describe("List what clients found of the models, by time", reply=ValidationPage, listing=_VALIDATIONS)
def validations() -> Response:
    query, chain = read_query(_VALIDATIONS), services().trail
    return listed(chain.validations(query.where, **query.window), chain.count_validations(query.where), query)
