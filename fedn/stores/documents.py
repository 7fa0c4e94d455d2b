"""What all state stores share: what may be a document, a key and a condition, and the errors that they raise alike.

A document is a JSON object. The checks are the narrowest of the back ends', so that what one accepts all accept.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from fedn.protocol.errors import Conflict, InvalidInput, LimitExceeded
from fedn.protocol.trail import TrailEntry
from fedn.stores.base import Document, JsonText, Lease, Scalar

MAX_DOCUMENT_BYTES = 8 << 20
"""Length of a document as JSON. MongoDB takes 16 MiB of BSON, which is up to twice as long for what we store."""

_COMPACT: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
_DOUBTFUL = ("\\u0000", '"$ref":')
"""What a text may have where one of its keys is not possible."""
_LONG_INTEGER = re.compile(r"[:\[,]-?[0-9]{19}")
"""And where an integer does not fit 64 bits."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_INTEGER = 2**63 - 1


def to_json(document: Mapping[str, Any] | JsonText) -> str:
    """The document as JSON text that every back end can keep unchanged.

    Raises:
        InvalidInput: (`bad_document`) something in it is not JSON (NaN and infinities are not), a key has a NUL, a
            string is not Unicode, or an integer does not fit 64 bits.
        LimitExceeded: (`document_too_large`) it is longer than MAX_DOCUMENT_BYTES.
    """
    is_text = isinstance(document, JsonText)
    try:
        text = str(document) if is_text else json.dumps(document, **_COMPACT)
        size = len(text.encode())
        # A second look costs more than the first: a text of ours gets it only where something in it may be amiss.
        if not is_text or any(part in text for part in _DOUBTFUL) or _LONG_INTEGER.search(text):
            json.loads(text, parse_int=_integer, object_pairs_hook=_object)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            "bad_document",
            f"a document cannot be stored: {error}",
            fix="Give a JSON object with finite numbers and integers of at most 64 bits.",
        ) from error
    if size > MAX_DOCUMENT_BYTES:
        raise document_too_large(size)
    return text


def from_json(text: str) -> Document:
    document: Document = json.loads(text)
    return document


def entry_to_json(entry: TrailEntry) -> str:
    try:
        text = json.dumps(entry.model_dump(mode="json"), **_COMPACT)
    except ValueError:
        return to_json(entry.model_dump(mode="json"))
    return to_json(JsonText(text))


def check_place(collection: str, key: str) -> None:
    """InvalidInput where there can be no such collection (`bad_collection`) or key (`bad_key`)."""
    _check_collection(collection)
    if not key or "\0" in key or not _is_unicode(key):
        raise InvalidInput("bad_key", f"{key[:80]!r} cannot be the key of a document", where={"collection": collection})


def check_query(collection: str, where: Mapping[str, Scalar] | None, order_by: str | None) -> dict[str, Scalar]:
    """The conditions, checked. InvalidInput: `bad_collection`, `bad_field` (not an identifier), `bad_document`."""
    _check_collection(collection)
    conditions = dict(where or {})
    for field in (*conditions, *([] if order_by is None else [order_by])):
        if _NAME.fullmatch(field) is None:
            _bad_name("bad_field", field, "field to search by")
    for field, value in conditions.items():
        if not _is_comparable(value):
            raise InvalidInput("bad_document", f"{value!r} is nothing to compare with", where={"field": field})
    return conditions


def document_too_large(size_bytes: int) -> LimitExceeded:
    return LimitExceeded(
        "document_too_large",
        f"a document of {size_bytes} bytes does not fit the state store",
        fix=f"A document may have {MAX_DOCUMENT_BYTES} bytes as JSON: keep large things in the model store.",
    )


def document_exists(collection: str, key: str) -> Conflict:
    return Conflict(
        "document_exists",
        f"the collection {collection} has a document {key!r} already",
        where={"collection": collection, "key": key},
    )


def trail_conflict(entry: TrailEntry) -> Conflict:
    return Conflict(
        "trail_conflict",
        f"the trail has an entry {entry.index}, or one of this round, already",
        fix="Another reducer wrote it, or this one before it was interrupted: read the trail's head and go on from it.",
        where={"federation": entry.federation, "index": entry.index, "session": entry.session, "round": entry.round},
    )


def lease_held(name: str, holder: str, seconds_left: float) -> Conflict:
    return Conflict(
        "lease_held",
        f"another process holds the lease {name!r}",
        fix="Stop that process, or wait until its lease runs out.",
        where={"lease": name, "holder": holder, "seconds_left": f"{max(0.0, seconds_left):.1f}"},
    )


def lease_lost(lease: Lease) -> Conflict:
    return Conflict(
        "lease_lost",
        f"the lease {lease.name!r} was taken over from {lease.holder!r} (epoch {lease.epoch})",
        fix="Stop: another process writes now.",
        where={"lease": lease.name, "epoch": lease.epoch},
    )


def _check_collection(collection: str) -> None:
    if _NAME.fullmatch(collection) is None:
        _bad_name("bad_collection", collection, "collection")


def _bad_name(code: str, name: str, what: str) -> NoReturn:
    raise InvalidInput(code, f"{name[:80]!r} cannot be the name of a {what}", fix="Use letters, digits and '_'.")


def _is_comparable(value: object) -> bool:
    match value:
        case None:
            return True
        case str():
            return _is_unicode(value)
        case int():
            return abs(value) <= _MAX_INTEGER
        case float():
            return math.isfinite(value)
        case _:
            return False


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _integer(digits: str) -> int:
    value = int(digits)
    if abs(value) > _MAX_INTEGER:
        raise ValueError(f"the integer {digits[:40]} does not fit 64 bits")
    return value


def _object(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if "\0" in key or key == "$ref":  # MongoDB has no name for the one, and another meaning for the other
            raise ValueError(f"the key {key!r} is not possible")
        if key in seen:
            raise ValueError(f"the key {key!r} comes twice")
        seen.add(key)
