"""A state store in MongoDB (5.0 or later; a standalone server will do, no transaction is used).

Every write but an event's is journaled at a majority of the servers before the call returns. Unique indexes decide
between concurrent writers. Who holds a lease is judged by the server's clock, so the reducers' clocks do not matter.
"""

import contextlib
import datetime
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pymongo
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidName,
    OperationFailure,
    PyMongoError,
    WriteError,
)
from pymongo.write_concern import WriteConcern

from fedn.protocol.errors import Conflict, FednError, InvalidInput, StoreUnavailable
from fedn.protocol.trail import EntryKind, TrailEntry
from fedn.stores.base import Document, JsonText, Lease, Put, Scalar
from fedn.stores.content import store_away, store_full
from fedn.stores.documents import (
    MAX_DOCUMENT_BYTES,
    check_place,
    check_query,
    document_exists,
    document_too_large,
    entry_to_json,
    from_json,
    lease_held,
    lease_lost,
    to_json,
    trail_conflict,
)

_DURABLE = WriteConcern(w="majority", j=True, wtimeout=30_000)
_SOON = WriteConcern(w=1)
"""Journaled within a tenth of a second, or with the next write that waits for it."""
_DUPLICATE_KEY = 11000
_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 60_000,
    "appname": "fedn",
}
"""What holds where the address does not say otherwise."""
_REFUSED_CODES = frozenset({11, 13, 18, 8000})  # user not found, unauthorized, authentication failed (also Atlas)
_FULL_CODES = frozenset({14031, 12501})  # out of disk space, quota exceeded

_LONG_AGO = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SCHEMA_VERSION = 1

_Row = dict[str, Any]


class MongoStateStore:
    """State in a database of a MongoDB server, connected to at the first call. Methods may be called from any thread.

    Collections: `trail`, `documents` (all of ours, by `collection` and `key`), `events`, `leases`, `counters`.

    Args:
        url: mongodb:// or mongodb+srv:// address, with user and options (TLS, timeouts …) as MongoDB documents them;
            only the write concern is ours.
        database: name of the database.

    Raises:
        InvalidInput: (`bad_mongodb_url`) the address or the name is malformed.
    """

    def __init__(self, url: str, database: str) -> None:
        try:
            address = urlsplit(url)
            given = {name.lower() for name, _ in parse_qsl(address.query)}
            options = {name: value for name, value in _OPTIONS.items() if name.lower() not in given}
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # an unknown option would be ignored with a warning
                self._client: pymongo.MongoClient[_Row] = pymongo.MongoClient(url, connect=False, **options)
            self._database: Database[_Row] = self._client.get_database(database, write_concern=_DURABLE)
        except (ConfigurationError, InvalidName, UserWarning, ValueError, TypeError, OSError) as error:
            raise InvalidInput(
                "bad_mongodb_url",
                f"the MongoDB address or database name is not right: {error}",
                fix="Give mongodb://[user:password@]host[:port] and a plain name.",
                where={"database": database},
            ) from error
        # Goes into errors: hosts only, no password and no option.
        self._where = f"mongodb {address.netloc.rpartition('@')[2]}/{database}"
        self._setup_lock = threading.Lock()
        self._event_lock = threading.Lock()
        self._is_set_up = False

    def append_entry(self, entry: TrailEntry) -> None:
        row = from_json(entry_to_json(entry))
        with self._database_calls() as db:
            try:
                db.trail.insert_one(row)
            except DuplicateKeyError:
                raise trail_conflict(entry) from None

    def entries(self, federation: str, start: int = 0, limit: int | None = None) -> list[TrailEntry]:
        if limit is not None and limit <= 0:
            return []
        with self._database_calls() as db:
            found = db.trail.find({"federation": federation, "index": {"$gte": start}}, {"_id": False})
            return [TrailEntry.model_validate(row) for row in found.sort("index").limit(limit or 0)]

    def head(self, federation: str) -> TrailEntry | None:
        with self._database_calls() as db:
            row = db.trail.find_one({"federation": federation}, {"_id": False}, sort=[("index", pymongo.DESCENDING)])
        return None if row is None else TrailEntry.model_validate(row)

    def insert(self, collection: str, key: str, document: Document | JsonText) -> None:
        row = _row(collection, key, document)
        with self._database_calls() as db:
            try:
                db.documents.insert_one(row)
            except DuplicateKeyError:
                raise document_exists(collection, key) from None

    def put(self, collection: str, key: str, document: Document | JsonText) -> None:
        row = _row(collection, key, document)
        with self._database_calls() as db:
            try:
                db.documents.replace_one({"_id": row["_id"]}, row, upsert=True)
            except DuplicateKeyError:
                # Two first puts of a key at once: the other has inserted it, so now there is one to replace.
                db.documents.replace_one({"_id": row["_id"]}, row, upsert=True)

    def put_all(self, puts: Sequence[Put], *, durable: bool = True) -> None:
        rows = [_row(one.collection, one.key, one.document) for one in puts]
        if not rows:
            return
        writes = [pymongo.ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows]
        with self._database_calls() as db:
            # What is not journaled at once is so with the next write that is: the journal keeps their order.
            documents = db.documents.with_options(write_concern=_DURABLE if durable else _SOON)
            try:
                documents.bulk_write(writes)
            except BulkWriteError as error:
                if not _is_duplicate(error):
                    raise
                documents.bulk_write(writes)  # as in `put`

    def insert_all(self, puts: Sequence[Put], *, durable: bool = True) -> None:
        rows = [_row(one.collection, one.key, one.document) for one in puts]
        if not rows:
            return
        with self._database_calls() as db:
            documents = db.documents.with_options(write_concern=_DURABLE if durable else _SOON)
            try:
                documents.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                if not _is_duplicate(error):
                    raise

    def get(self, collection: str, key: str) -> Document | None:
        check_place(collection, key)
        with self._database_calls() as db:
            row = db.documents.find_one({"_id": f"{collection}/{key}"})
        return None if row is None else row["document"]

    def find(
        self,
        collection: str,
        where: Mapping[str, Scalar] | None = None,
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Document]:
        condition = _condition(collection, check_query(collection, where, order_by))
        if limit is not None and limit <= 0:
            return []
        fields = ["key"] if order_by is None else [f"document.{order_by}", "key"]
        way = pymongo.DESCENDING if descending else pymongo.ASCENDING
        with self._database_calls() as db:
            found = db.documents.find(condition).sort([(field, way) for field in fields])
            return [row["document"] for row in found.skip(offset).limit(limit or 0)]

    def count(self, collection: str, where: Mapping[str, Scalar] | None = None) -> int:
        condition = _condition(collection, check_query(collection, where, None))
        with self._database_calls() as db:
            return db.documents.count_documents(condition)

    def delete(self, collection: str, key: str) -> bool:
        check_place(collection, key)
        with self._database_calls() as db:
            return db.documents.delete_one({"_id": f"{collection}/{key}"}).deleted_count > 0

    def append_events(self, events: Sequence[Document | JsonText]) -> list[int]:
        rows = [{"event": from_json(to_json(event))} for event in events]
        numbers: list[int] = []
        # An event is inserted only when the one before it can be read (the server inserts in order): a reader that has
        # seen number n misses none below n. A second process that took a number makes this one take the next.
        with self._event_lock, self._database_calls() as db:
            log = db.events.with_options(write_concern=_SOON)
            while len(numbers) < len(rows):
                following = self._last_event(db) + 1
                left = [{"_id": number, **row} for number, row in enumerate(rows[len(numbers) :], following)]
                added = len(left)
                try:
                    log.insert_many(left)
                except BulkWriteError as error:
                    if not _is_duplicate(error):
                        raise
                    added = int(error.details["nInserted"])
                numbers.extend(range(following, following + added))
        return numbers

    def events(self, after: int = 0, limit: int = 1000) -> list[tuple[int, Document]]:
        if limit <= 0:
            return []
        with self._database_calls() as db:
            found = db.events.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
            return [(row["_id"], row["event"]) for row in found]

    def trim_events(self, keep: int) -> None:
        with self._event_lock, self._database_calls() as db:
            last = self._last_event(db)
            # Numbers must grow even where every event is forgotten.
            db.counters.update_one({"_id": "events"}, {"$max": {"last": last}}, upsert=True)
            oldest = list(db.events.find({}, {"_id": True}).sort("_id", pymongo.DESCENDING).skip(max(keep, 0)).limit(1))
            if oldest:
                db.events.delete_many({"_id": {"$lte": oldest[0]["_id"]}})

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        started_at = time.time()
        with self._database_calls() as db:
            with contextlib.suppress(DuplicateKeyError):
                db.leases.insert_one({"_id": name, "holder": "", "epoch": 0, "expires_at": _LONG_AGO})
            free = {"$expr": {"$lte": ["$expires_at", "$$NOW"]}}
            taken = db.leases.find_one_and_update(
                {"_id": name, "$or": [{"holder": holder}, free]},
                [{"$set": {"holder": {"$literal": holder}, "epoch": {"$add": ["$epoch", 1]}, **_expiry(ttl_s)}}],
                return_document=pymongo.ReturnDocument.AFTER,
            )
            if taken is None:
                raise _held(db.leases, name)
            return Lease(name, holder, taken["epoch"], started_at + ttl_s)

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        started_at = time.time()
        with self._database_calls() as db:
            if db.leases.update_one(_ours(lease), [{"$set": _expiry(ttl_s)}]).matched_count == 0:
                raise lease_lost(lease)
        return Lease(lease.name, lease.holder, lease.epoch, started_at + ttl_s)

    def release_lease(self, lease: Lease) -> None:
        with self._database_calls() as db:
            db.leases.update_one(_ours(lease), [{"$set": {"holder": "", **_expiry(0.0)}}])

    def ping(self) -> None:
        with self._database_calls() as db:
            db.command("ping")

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def _database_calls(self) -> Iterator[Database[_Row]]:
        """The database, with its indexes made; the driver's errors become ours."""
        try:
            with self._setup_lock:
                if not self._is_set_up:
                    _set_up(self._database)
                    self._is_set_up = True
            yield self._database
        except DocumentTooLarge as error:
            raise document_too_large(MAX_DOCUMENT_BYTES) from error
        except PyMongoError as error:
            raise _translated(error, self._where) from error

    @staticmethod
    def _last_event(db: Database[_Row]) -> int:
        newest = db.events.find_one({}, {"_id": True}, sort=[("_id", pymongo.DESCENDING)])
        if newest is None:
            newest_trimmed = db.counters.find_one({"_id": "events"})
            return 0 if newest_trimmed is None else int(newest_trimmed["last"])
        return int(newest["_id"])


def _set_up(db: Database[_Row]) -> None:
    """Indexes and the schema's version; does nothing where they are there. Conflict where the version is later."""
    ascending = pymongo.ASCENDING
    db.trail.create_index([("federation", ascending), ("index", ascending)], unique=True)
    db.trail.create_index(
        [("session", ascending), ("round", ascending)],
        unique=True,
        partialFilterExpression={"kind": EntryKind.ROUND.value},
    )
    db.documents.create_index([("collection", ascending), ("key", ascending)])
    # Serves the collections that grow with every round: rounds, validations.
    db.documents.create_index([("collection", ascending), ("document.session", ascending), ("key", ascending)])
    with contextlib.suppress(DuplicateKeyError):
        db.counters.insert_one({"_id": "schema", "version": _SCHEMA_VERSION})
    found = db.counters.find_one({"_id": "schema"}) or {"version": _SCHEMA_VERSION}
    if found["version"] > _SCHEMA_VERSION:
        raise Conflict(
            "state_store_too_new",
            f"the state store has schema {found['version']}; this fedn knows up to {_SCHEMA_VERSION}",
            fix="Start the version of fedn that wrote it, or a later one.",
            where={"database": db.name},
        )


def _row(collection: str, key: str, document: Document | JsonText) -> _Row:
    check_place(collection, key)
    # The text and back: what is not JSON is refused, tuples become lists, and no object of the caller's is shared.
    plain = from_json(to_json(document))
    return {"_id": f"{collection}/{key}", "collection": collection, "key": key, "document": plain}


def _condition(collection: str, where: dict[str, Scalar]) -> _Row:
    """What matches the collection's documents whose fields equal `where`.

    MongoDB alone would also match an array that has the value as an element; a missing field equals None.
    """
    fields = {f"document.{name}": {"$eq": value, "$not": {"$type": "array"}} for name, value in where.items()}
    return {"collection": collection, **fields}


def _is_duplicate(error: BulkWriteError) -> bool:
    """Whether nothing but a key that was taken meanwhile stopped the writes."""
    faults = error.details.get("writeErrors", [])
    concerns = error.details.get("writeConcernErrors", [])
    return bool(faults) and not concerns and all(fault.get("code") == _DUPLICATE_KEY for fault in faults)


def _expiry(ttl_s: float) -> _Row:
    return {"expires_at": {"$add": ["$$NOW", round(ttl_s * 1000)]}}


def _ours(lease: Lease) -> _Row:
    return {"_id": lease.name, "holder": lease.holder, "epoch": lease.epoch}


def _held(leases: Collection[_Row], name: str) -> Conflict:
    left_ms = {"$subtract": ["$expires_at", "$$NOW"]}
    row = leases.find_one({"_id": name}, {"holder": True, "left_ms": left_ms}) or {"holder": "", "left_ms": 0}
    return lease_held(name, row["holder"], row["left_ms"] / 1000)


def _translated(error: PyMongoError, where: str) -> FednError:
    code = error.code if isinstance(error, OperationFailure) else None
    refused = isinstance(error, WriteError)
    if isinstance(error, BulkWriteError) and (faults := error.details.get("writeErrors")):
        code, refused = faults[0].get("code"), True
    if code in _FULL_CODES:
        return store_full(where, error)
    if code in _REFUSED_CODES:
        return StoreUnavailable(
            "store_refused",
            f"the state store refuses us: {error}",
            fix="Check the user, the password and their rights on this database.",
            where={"store": where},
        )
    if refused:
        return InvalidInput("bad_document", f"the state store cannot hold a document: {error}", where={"store": where})
    return store_away(where, error)
