"""The model trail of this federation: appends sealed entries, reads and verifies them, and keeps validations.

How an entry is hashed, signed and checked stands in `fedn.protocol.trail`; how it becomes durable, in the stores. Only
one reducer process writes (the lease), and within it one thread at a time.
"""

import base64
import binascii
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from fedn.network.tokens import verify_signature
from fedn.protocol.errors import Conflict, IntegrityError, NotFound
from fedn.protocol.rest import as_json
from fedn.protocol.rounds import CombinerModel
from fedn.protocol.trail import (
    GENESIS,
    EntryKind,
    TrailEntry,
    ValidationRecord,
    VerifiedTrail,
    seal,
    verify_chain,
)
from fedn.stores.base import Put, Scalar, StateStore

VALIDATIONS = "validations"
_BATCH = 500


class TrailSigner(Protocol):
    """The federation's trail key; `fedn.network.tokens.Signer`."""

    @property
    def key_id(self) -> str: ...

    @property
    def public_key_pem(self) -> bytes: ...

    def sign(self, data: bytes) -> bytes: ...


class Trail:
    """Thread-safe.

    Every append may be repeated after StoreUnavailable: what was written the first time is returned, not doubled.

    Args:
        state: where entries are kept.
        federation: name of the federation.
        signer: seals entries, and is the only one whose entries verify.
        epoch: writer epoch of this process.
    """

    def __init__(
        self,
        state: StateStore,
        federation: str,
        signer: TrailSigner,
        epoch: int,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.federation = federation
        self._state = state
        self._signer = signer
        self._epoch = epoch
        self._clock = clock
        self._lock = threading.Lock()
        self._head: TrailEntry | None = None
        self._head_known = False
        self._positions: dict[str, int] = {}
        self._indexed = 0

    @property
    def key_id(self) -> str:
        return self._signer.key_id

    @property
    def public_key_pem(self) -> bytes:
        return self._signer.public_key_pem

    # Appending

    def append_seed(self, model_id: str) -> TrailEntry:
        """A model from outside becomes the global model. Where it is the head's already, that entry is returned."""
        with self._lock:
            head = self._read_head()
            if head is not None and head.model_id == model_id:
                return head
            return self._append(head, EntryKind.SEED, model_id)

    def append_round(
        self,
        session: str,
        round: int,
        model_id: str,
        parent: str,
        plan_digest: str,
        combiner_models: tuple[CombinerModel, ...],
        metrics: Mapping[str, float],
        state_id: str = "",
    ) -> TrailEntry:
        """Commits a round: when this returns, its model is the global model.

        Args:
            round: index of the round in its session, from 0.
            parent: model_id that the round started from; it must be the head's.
            metrics: finite numbers.

        Raises:
            Conflict: `trail_conflict` (the round has an entry already), `parent_not_head` (the head is another model).
        """
        with self._lock:
            head = self._read_head()
            if head is not None and (head.session, head.round, head.model_id) == (session, round, model_id):
                return head
            if head is None or head.model_id != parent:
                raise Conflict(
                    "parent_not_head",
                    "the round started from another model than the trail's head",
                    fix="Start a new session: it starts from the head.",
                    where={"session": session, "round": round, "parent": parent},
                )
            return self._append(
                head,
                EntryKind.ROUND,
                model_id,
                session=session,
                round=round,
                parent=parent,
                plan_digest=plan_digest,
                combiner_models=combiner_models,
                metrics=dict(metrics),
                state_id=state_id,
            )

    def append_rollback(self, model_id: str) -> TrailEntry:
        """An earlier model becomes the global model again. Where it is the head's already, that entry is returned.

        Raises:
            NotFound: (`no_such_model`) no entry has this model.
        """
        earlier = self.entry_of(model_id)
        with self._lock:
            head = self._read_head()
            if head is not None and head.model_id == model_id:
                return head
            parent = "" if head is None else head.model_id
            return self._append(head, EntryKind.ROLLBACK, model_id, parent=parent, state_id=earlier.state_id)

    def _append(self, head: TrailEntry | None, kind: EntryKind, model_id: str, **fields: Any) -> TrailEntry:
        entry = TrailEntry(
            federation=self.federation,
            index=0 if head is None else head.index + 1,
            kind=kind,
            epoch=self._epoch,
            model_id=model_id,
            time=self._clock(),
            previous=GENESIS if head is None else head.hash,
            **fields,
        )
        sealed = seal(entry, self._signer.key_id, self._signer.sign)
        # Until the store confirms, nobody knows whether the entry is there: the next call reads the head again.
        self._head_known = False
        self._state.append_entry(sealed)
        self._head, self._head_known = sealed, True
        return sealed

    # Reading

    def head(self) -> TrailEntry | None:
        """The latest entry."""
        with self._lock:
            return self._read_head()

    def _read_head(self) -> TrailEntry | None:
        if not self._head_known:
            self._head = self._state.head(self.federation)
            self._head_known = True
        return self._head

    def entries(self, start: int = 0, limit: int | None = None) -> list[TrailEntry]:
        """By index, from `start` on."""
        return self._state.entries(self.federation, start, limit)

    def iterate(self, start: int = 0) -> Iterator[TrailEntry]:
        """Every entry from `start` on, read in parts."""
        while batch := self.entries(start, _BATCH):
            yield from batch
            start = batch[-1].index + 1

    def entry_of(self, model_id: str) -> TrailEntry:
        """The latest entry with this model. NotFound (`no_such_model`)."""
        with self._lock:
            for entry in self.iterate(self._indexed):
                self._positions[entry.model_id] = entry.index
                self._indexed = entry.index + 1
            position = self._positions.get(model_id)
        found = self.entries(position, 1) if position is not None else []
        if not found:
            raise NotFound(
                "no_such_model",
                "no entry of the trail has this model",
                fix="List the models with: fedn model list.",
                where={"model": model_id},
            )
        return found[0]

    def verify(self, expected_head: str | None = None) -> VerifiedTrail:
        """Proves that nothing in the trail was changed, dropped, put in between or, with `expected_head`, cut off.

        Raises:
            IntegrityError: `trail_broken`, `trail_cut`: names the first entry that does not fit.
        """
        return verify_chain(
            self.iterate(), self._check_signature, federation=self.federation, expected_head=expected_head
        )

    def _check_signature(self, entry: TrailEntry) -> None:
        try:
            if entry.key_id != self._signer.key_id:
                raise IntegrityError("trail_broken", "another key signed it")
            signature = base64.b64decode(entry.signature, validate=True)
            verify_signature(self._signer.public_key_pem, signature, entry.hash.encode("ascii"))
        except (binascii.Error, IntegrityError) as error:
            raise IntegrityError(
                "trail_broken",
                f"trail entry {entry.index} is not signed with this federation's key",
                fix="The state store was tampered with or belongs to other keys: restore both from one backup.",
                where={"index": entry.index, "hash": entry.hash, "key": entry.key_id},
            ) from error

    # Validations

    def add_validations(self, records: Sequence[ValidationRecord]) -> None:
        """Keeps what clients found of entries' models: once a client, entry and session; what is there stays."""
        self._state.insert_all(
            [
                Put(VALIDATIONS, f"{record.entry_hash}/{record.session}/{record.client}", as_json(record))
                for record in records
            ],
            durable=False,
        )

    def validations(
        self,
        where: Mapping[str, Scalar] | None = None,
        *,
        entry_hash: str | None = None,
        session: str | None = None,
        order_by: str = "time",
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[ValidationRecord]:
        """Of one entry, of one session, those whose fields equal `where`, or all; by time unless asked otherwise."""
        found = self._state.find(
            VALIDATIONS,
            _where(where, entry_hash, session),
            order_by=order_by,
            descending=descending,
            limit=limit,
            offset=offset,
        )
        return [ValidationRecord.model_validate(document) for document in found]

    def count_validations(
        self,
        where: Mapping[str, Scalar] | None = None,
        *,
        entry_hash: str | None = None,
        session: str | None = None,
    ) -> int:
        return self._state.count(VALIDATIONS, _where(where, entry_hash, session))


def _where(where: Mapping[str, Scalar] | None, entry_hash: str | None, session: str | None) -> dict[str, Scalar]:
    given = {"entry_hash": entry_hash, "session": session}
    return {**(where or {}), **{name: value for name, value in given.items() if value is not None}}
