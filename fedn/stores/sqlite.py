"""A state store in one SQLite file: for the sandbox, for small federations, for tests.

The file must be on a local disk: SQLite's write-ahead log does not work over network file systems. A commit is
durable when the call returns (synchronous=FULL); only events may be lost in a power failure, never reordered.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedn.protocol.errors import Conflict, FednError, IntegrityError, InvalidInput
from fedn.protocol.trail import TrailEntry
from fedn.stores.base import Document, JsonText, Lease, Put, Scalar
from fedn.stores.content import store_away, store_full
from fedn.stores.documents import (
    check_place,
    check_query,
    document_exists,
    entry_to_json,
    from_json,
    lease_held,
    lease_lost,
    to_json,
    trail_conflict,
)

_APPLICATION_ID = 0x6665646E
"""`fedn` in ASCII, in the file's header: no other program's database is taken for ours."""
_SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 10.0

_SCHEMA = (
    """CREATE TABLE trail (
        federation TEXT NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL, session TEXT NOT NULL, round INTEGER,
        body TEXT NOT NULL, PRIMARY KEY (federation, position)
    ) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX trail_round ON trail (session, round) WHERE kind = 'round'",
    "CREATE TRIGGER trail_unchanged BEFORE UPDATE ON trail BEGIN SELECT RAISE(ABORT, 'entries never change'); END",
    "CREATE TRIGGER trail_undeleted BEFORE DELETE ON trail BEGIN SELECT RAISE(ABORT, 'entries never go'); END",
    """CREATE TABLE documents (
        collection TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (collection, key)
    )""",
    # Serves the collections that grow with every round: rounds, validations.
    "CREATE INDEX documents_session ON documents (collection, json_extract(body, '$.session'), key)",
    "CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL)",
    """CREATE TABLE leases (
        name TEXT PRIMARY KEY, holder TEXT NOT NULL, epoch INTEGER NOT NULL, expires_at REAL NOT NULL
    ) WITHOUT ROWID""",
)


class SqliteStateStore:
    """State in the file `path`, which is made where it is missing. Methods may be called from any thread.

    One connection writes and one reads, so that a read never waits for a commit's disk write.

    Raises:
        InvalidInput: (`not_a_state_store`) the file is something else.
        Conflict: (`state_store_too_new`) a later version of fedn made it.
        StoreUnavailable: the file cannot be made or opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        with self._errors():
            _make_file(self._path)
            self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
            self._is_durable: bool | None = None
            """Whether the writer waits for the disk at each commit; None where it was not told yet."""
            self._writer = _connect(self._path)
            try:
                self._prepare()
                self._reader = _connect(self._path)
            except BaseException:
                self._writer.close()
                raise

    def append_entry(self, entry: TrailEntry) -> None:
        row = (entry.federation, entry.index, entry.kind.value, entry.session, entry.round, entry_to_json(entry))
        with self._transaction() as db:
            try:
                db.execute("INSERT INTO trail VALUES (?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise trail_conflict(entry) from None

    def entries(self, federation: str, start: int = 0, limit: int | None = None) -> list[TrailEntry]:
        rows = self._select(
            "SELECT body FROM trail WHERE federation = ? AND position >= ? ORDER BY position LIMIT ?",
            (federation, start, -1 if limit is None else limit),
        )
        return [TrailEntry.model_validate_json(body) for (body,) in rows]

    def head(self, federation: str) -> TrailEntry | None:
        rows = self._select("SELECT body FROM trail WHERE federation = ? ORDER BY position DESC LIMIT 1", (federation,))
        return TrailEntry.model_validate_json(rows[0][0]) if rows else None

    def insert(self, collection: str, key: str, document: Document | JsonText) -> None:
        check_place(collection, key)
        row = (collection, key, to_json(document))
        with self._transaction() as db:
            try:
                db.execute("INSERT INTO documents VALUES (?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise document_exists(collection, key) from None

    def put(self, collection: str, key: str, document: Document | JsonText) -> None:
        self.put_all([Put(collection, key, document)])

    def put_all(self, puts: Sequence[Put], *, durable: bool = True) -> None:
        rows = _rows(puts)
        with self._transaction(durable=durable) as db:
            db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", rows)

    def insert_all(self, puts: Sequence[Put], *, durable: bool = True) -> None:
        rows = _rows(puts)
        with self._transaction(durable=durable) as db:
            db.executemany("INSERT OR IGNORE INTO documents VALUES (?, ?, ?)", rows)

    def get(self, collection: str, key: str) -> Document | None:
        check_place(collection, key)
        rows = self._select("SELECT body FROM documents WHERE collection = ? AND key = ?", (collection, key))
        return from_json(rows[0][0]) if rows else None

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
        condition, values = _condition(collection, check_query(collection, where, order_by))
        way = "DESC" if descending else "ASC"
        order = f"key {way}" if order_by is None else f"{_field(order_by)} {way}, key {way}"
        rows = self._select(
            f"SELECT body FROM documents WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",  # noqa: S608 (checked)
            (*values, -1 if limit is None else limit, offset),
        )
        return [from_json(body) for (body,) in rows]

    def count(self, collection: str, where: Mapping[str, Scalar] | None = None) -> int:
        condition, values = _condition(collection, check_query(collection, where, None))
        rows = self._select(f"SELECT count(*) FROM documents WHERE {condition}", values)  # noqa: S608 (checked)
        return int(rows[0][0])

    def delete(self, collection: str, key: str) -> bool:
        check_place(collection, key)
        with self._transaction() as db:
            done = db.execute("DELETE FROM documents WHERE collection = ? AND key = ?", (collection, key))
            return done.rowcount > 0

    def append_events(self, events: Sequence[Document | JsonText]) -> list[int]:
        rows = [(to_json(event),) for event in events]
        with self._transaction(durable=False) as db:
            added = [db.execute("INSERT INTO events (body) VALUES (?)", row).lastrowid for row in rows]
        return [number for number in added if number is not None]

    def events(self, after: int = 0, limit: int = 1000) -> list[tuple[int, Document]]:
        rows = self._select("SELECT number, body FROM events WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
        return [(number, from_json(body)) for number, body in rows]

    def trim_events(self, keep: int) -> None:
        with self._transaction(durable=False) as db:
            db.execute(
                "DELETE FROM events WHERE number <= (SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (max(keep, 0),),
            )

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        now = time.time()
        with self._transaction() as db:
            found = db.execute("SELECT holder, epoch, expires_at FROM leases WHERE name = ?", (name,)).fetchone()
            holder_now, epoch, expires_at = found or ("", 0, 0.0)
            if holder_now != holder and expires_at > now:
                raise lease_held(name, holder_now, expires_at - now)
            lease = Lease(name, holder, epoch + 1, now + ttl_s)
            db.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (name, holder, lease.epoch, lease.expires_at)
            )
            return lease

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        renewed = Lease(lease.name, lease.holder, lease.epoch, time.time() + ttl_s)
        if not self._set_lease(lease, renewed.holder, renewed.expires_at):
            raise lease_lost(lease)
        return renewed

    def release_lease(self, lease: Lease) -> None:
        self._set_lease(lease, "", 0.0)

    def ping(self) -> None:
        self._select("SELECT 1", ())

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def _set_lease(self, lease: Lease, holder: str, expires_at: float) -> bool:
        with self._transaction() as db:
            done = db.execute(
                "UPDATE leases SET holder = ?, expires_at = ? WHERE name = ? AND holder = ? AND epoch = ?",
                (holder, expires_at, lease.name, lease.holder, lease.epoch),
            )
            return done.rowcount > 0

    def _select(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._errors(), self._read_lock:
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Commits what the block does, or nothing of it where the block or the commit fails."""
        with self._errors(), self._write_lock:
            if durable is not self._is_durable:
                self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._is_durable = durable
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _prepare(self) -> None:
        """Makes the tables in a new file. One that is not ours, or too new, is refused and left as it is."""
        db = self._writer
        _check_header(db, self._path)
        db.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            if _check_header(db, self._path) == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise store_away(str(self._path), error) from error
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit: the transactions are written out. Two locks keep each connection to one thread at a time.
    return sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _make_file(path: Path) -> None:
    """Makes an empty file that only its owner may read, whose name survives a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _check_header(db: sqlite3.Connection, path: Path) -> int:
    """The version of the file's schema, 0 for an empty file. InvalidInput or Conflict where we must not use it."""
    application_id, version, tables = (
        int(db.execute(query).fetchone()[0])
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
    )
    if tables == 0:
        return 0
    if application_id != _APPLICATION_ID:
        raise _not_ours(path)
    if version > _SCHEMA_VERSION:
        raise Conflict(
            "state_store_too_new",
            f"the state store has schema {version}; this fedn knows up to {_SCHEMA_VERSION}",
            fix="Start the version of fedn that wrote it, or a later one.",
            where={"file": path},
        )
    return version


def _rows(puts: Sequence[Put]) -> list[tuple[str, str, str]]:
    for one in puts:
        check_place(one.collection, one.key)
    return [(one.collection, one.key, to_json(one.document)) for one in puts]


def _field(name: str) -> str:
    return f"json_extract(body, '$.{name}')"


def _condition(collection: str, where: dict[str, Scalar]) -> tuple[str, tuple[Any, ...]]:
    """SQL that is true of the collection's documents whose fields equal `where`, and its values.

    JSON's true and false come out of json_extract as 1 and 0, objects and arrays as text, hence the types.
    """
    parts = ["collection = ?"]
    values: list[Scalar] = [collection]
    for name, value in where.items():
        kind = f"json_type(body, '$.{name}')"
        if value is None:
            parts.append(f"coalesce({kind}, 'null') = 'null'")
        elif isinstance(value, bool):
            parts.append(f"{kind} = '{'true' if value else 'false'}'")
        else:
            types = "('text')" if isinstance(value, str) else "('integer', 'real')"
            parts.append(f"{_field(name)} = ? AND {kind} IN {types}")
            values.append(value)
    return " AND ".join(parts), tuple(values)


def _not_ours(path: Path) -> FednError:
    return InvalidInput(
        "not_a_state_store",
        "the file is not a state store of fedn",
        fix="Name another file; it is made where it is missing.",
        where={"file": path},
    )


def _translated(error: sqlite3.Error, path: Path) -> FednError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without the extension
    if code == sqlite3.SQLITE_FULL:
        return store_full(str(path), error)
    if code == sqlite3.SQLITE_NOTADB:
        return _not_ours(path)
    if code == sqlite3.SQLITE_CORRUPT:
        return IntegrityError(
            "state_store_damaged",
            f"the state store is damaged: {error}",
            fix="Restore the file from a backup.",
            where={"file": path},
        )
    return store_away(str(path), error)
