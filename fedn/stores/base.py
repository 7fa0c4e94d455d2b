"""The two protocols that every store fulfils. One contract-test suite each runs against every back end.

All calls block and may be made from any thread. A store that does not answer raises StoreUnavailable; the caller
may repeat any call, since each is idempotent or refuses what is there already.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from fedn.protocol.trail import TrailEntry

Document = dict[str, Any]
"""A JSON object."""


class JsonText(str):
    """A JSON object as its compact text, by a serializer of typed payloads: keys are strings, and each comes once."""

    __slots__ = ()


Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class StoredObject:
    object_id: str
    """Digest of the bytes."""
    size_bytes: int
    stored_at: float
    """Unix time in seconds."""


class ObjectWriter(Protocol):
    """An object on its way into a model store: it is hashed as it is written, and is there once it is kept.

    A context manager: what was not kept is gone when it ends. Used by one thread at a time.
    """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes; they are read during the call only.

        Raises:
            IntegrityError: (`digest_mismatch`) they are more than were announced.
            StoreUnavailable: the store is full or cannot be written; none of them counts, and the call may be repeated.
        """

    def digest(self) -> str:
        """The name of the bytes that were written so far."""

    def keep(self, object_id: str) -> None:
        """Stores the object durably under its name, as `ModelStore.put` does; may be repeated after StoreUnavailable.

        Raises:
            IntegrityError: (`digest_mismatch`) the bytes do not have this digest, or are not as many as announced.
            StoreUnavailable: the store does not answer, or is full (`store_full`); nothing is stored.
        """

    def close(self) -> None:
        """Lets go of it; may be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class ModelStore(Protocol):
    """Immutable objects (models, server states, compute packages) named by the digest of their bytes."""

    def writer(self, algorithm: str, size_bytes: int) -> ObjectWriter:
        """Begins an object of so many bytes, whose name need not be known yet.

        Args:
            algorithm: of the digest that will name it.

        Raises:
            StoreUnavailable: as `put`.
        """

    def put(self, object_id: str, chunks: Iterable[bytes | bytearray | memoryview], size_bytes: int) -> None:
        """Stores an object durably: when this returns, it survives a crash. An object that is there is left alone.

        Raises:
            IntegrityError: (`digest_mismatch`) the bytes do not have this digest or size; nothing is stored.
            StoreUnavailable: the store does not answer, or is full (`store_full`); nothing is stored.
        """

    def read(self, object_id: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset` on, in pieces of at most 1 MiB. NotFound (`no_such_object`) at the first piece."""

    def stat(self, object_id: str) -> StoredObject:
        """Size and time. NotFound (`no_such_object`) where there is none."""

    def delete(self, object_id: str) -> None:
        """Removes an object; nothing happens where there is none.

        Raises:
            Conflict: (`object_retained`) the store keeps it under retention.
        """

    def objects(self) -> Iterator[StoredObject]:
        """Every object, in no order."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Put:
    """A document to be added or replaced."""

    collection: str
    key: str
    document: Document | JsonText


@dataclass(frozen=True)
class Lease:
    """The right to write, for a time. `epoch` grows each time that the lease is acquired anew."""

    name: str
    holder: str
    epoch: int
    expires_at: float
    """Unix time in seconds."""


class StateStore(Protocol):
    """Documents in named collections, the trail, the event log and the lease."""

    def append_entry(self, entry: TrailEntry) -> None:
        """Appends to the trail, durably: when this returns, the entry is committed.

        Raises:
            Conflict: (`trail_conflict`) federation+index is taken, or session+round of a `round` entry is.
        """

    def entries(self, federation: str, start: int = 0, limit: int | None = None) -> list[TrailEntry]:
        """Entries by index, from `start` on."""

    def head(self, federation: str) -> TrailEntry | None:
        """The entry with the highest index."""

    def insert(self, collection: str, key: str, document: Document | JsonText) -> None:
        """Adds a document, durably. Conflict (`document_exists`) where the key is taken."""

    def insert_all(self, puts: Sequence[Put], *, durable: bool = True) -> None:
        """Adds the documents whose keys are free and leaves alone what is there; else as `put_all`."""

    def put(self, collection: str, key: str, document: Document | JsonText) -> None:
        """Adds or replaces a document, durably."""

    def get(self, collection: str, key: str) -> Document | None: ...

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
        """Documents whose top-level fields equal `where`, by the field `order_by`, then by key."""

    def count(self, collection: str, where: Mapping[str, Scalar] | None = None) -> int: ...

    def put_all(self, puts: Sequence[Put], *, durable: bool = True) -> None:
        """Adds or replaces documents, in this order: all of them at once, or a beginning where the store stops halfway.

        Where they are not `durable` they outlive this process at once, and a crash of the store's machine from the
        next durable write on.
        """

    def delete(self, collection: str, key: str) -> bool:
        """Removes a document; whether there was one."""

    def append_events(self, events: Sequence[Document | JsonText]) -> list[int]:
        """Adds to the event log, in order, and returns their numbers, which grow. Not necessarily durable at once.

        Where the store stops halfway, a beginning of them may be there. One that is no JSON object refuses them all.
        """

    def events(self, after: int = 0, limit: int = 1000) -> list[tuple[int, Document]]:
        """(number, event) of events with a number greater than `after`, in order."""

    def trim_events(self, keep: int) -> None:
        """Forgets all but the latest `keep` events."""

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Takes the lease, with an epoch one higher than ever before.

        A lease held by the same holder, or expired, is taken over.

        Raises:
            Conflict: (`lease_held`) another holder has it; `where` names the holder and the seconds left.
        """

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """Prolongs it. Conflict (`lease_lost`) where it was taken over."""

    def release_lease(self, lease: Lease) -> None:
        """Gives it up; nothing happens where it was lost. The epoch is remembered."""

    def ping(self) -> None:
        """StoreUnavailable where the store does not answer."""

    def close(self) -> None: ...
