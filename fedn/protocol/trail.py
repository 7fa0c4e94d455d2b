"""The model trail's entries: how they are written, hashed, signed and checked. Pure: no store, no clock.

One append-only chain per federation. An entry's hash covers everything in it but the hash and the signature, the
previous entry's hash included, as canonical JSON (keys sorted, no spaces, UTF-8, shortest float form). The reducer
signs the hash with its Ed25519 key.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from fedn.protocol.errors import IntegrityError, TrailCut
from fedn.protocol.rounds import CombinerModel
from fedn.protocol.tasks import Frozen

SCHEMA_VERSION: Literal[1] = 1
GENESIS = "sha256:" + "0" * 64
"""The `previous` of the first entry."""


class EntryKind(StrEnum):
    SEED = "seed"
    ROUND = "round"
    ROLLBACK = "rollback"


class TrailEntry(Frozen):
    """One model that became the global model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    federation: str
    index: int = Field(ge=0)
    """Position in the chain, from 0."""
    kind: EntryKind
    session: str = ""
    round: int | None = None
    """Index of the round within its session, from 0; None for seed and rollback."""
    epoch: int
    """Writer epoch of the reducer process that wrote it."""
    model_id: str
    parent: str = ""
    """model_id that this one was made from; empty for a seed."""
    plan_digest: str = ""
    state_id: str = ""
    """Digest of the server's state (optimizer, rule, scheduler, random state); empty where there is none."""
    combiner_models: tuple[CombinerModel, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    """Training metrics, mean over the contributions by examples."""
    time: float
    """Unix time in seconds."""
    previous: str
    hash: str = ""
    key_id: str = ""
    """`sha256:` of the signer's raw public key."""
    signature: str = ""
    """Ed25519 over the ASCII of `hash`, base64."""


def canonical_json(value: Any) -> bytes:
    """Bytes of a JSON value that depend on the value alone. ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_json(value: Any) -> str:
    """`sha256:` digest of a JSON value's canonical form."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


_LATER_FIELDS = {"base_index": None, "memory_bytes": 0}
"""Of a combiner model, with what stands for none: entries from before there were such fields keep their hashes."""
_LATER_OF_PARTS = {"base_index": None}
"""Of a contribution, likewise."""


def entry_hash(entry: TrailEntry) -> str:
    """What `entry.hash` must be."""
    value = entry.model_dump(mode="json", exclude={"hash", "signature"})
    for model in value["combiner_models"]:
        _leave_out(_LATER_FIELDS, model)
        for part in model["contributions"]:
            _leave_out(_LATER_OF_PARTS, part)
    return digest_json(value)


def _leave_out(later: Mapping[str, object], value: dict[str, Any]) -> None:
    for name, nothing in later.items():
        if value[name] == nothing:
            del value[name]


def seal(entry: TrailEntry, key_id: str, sign: Callable[[bytes], bytes]) -> TrailEntry:
    """The entry with key id, hash and signature."""
    named = entry.model_copy(update={"key_id": key_id})
    digest = entry_hash(named)
    signature = base64.b64encode(sign(digest.encode("ascii"))).decode("ascii")
    return named.model_copy(update={"hash": digest, "signature": signature})


@dataclass(frozen=True)
class VerifiedTrail:
    """What a check of a whole chain found good."""

    length: int
    head: str
    """Hash of the last entry; GENESIS for an empty chain."""


def verify_chain(
    entries: Iterable[TrailEntry],
    check_signature: Callable[[TrailEntry], None],
    *,
    federation: str,
    expected_head: str | None = None,
) -> VerifiedTrail:
    """Proves that nothing was changed, dropped, put in between or (with `expected_head`) cut off.

    Args:
        entries: the whole chain, in order, from index 0.
        check_signature: raises IntegrityError where an entry's signature is not the reducer's.
        expected_head: hash of an entry known to have been written; it must be in the chain.

    Raises:
        IntegrityError: at the first entry that does not fit, named with its index.
    """
    previous, model_id, length = GENESIS, "", 0
    rounds: set[tuple[str, int]] = set()
    seen_head = expected_head in (None, GENESIS)
    for position, entry in enumerate(entries):
        _check_entry(entry, position, previous, federation)
        check_signature(entry)
        if entry.kind is EntryKind.ROUND:
            if entry.round is None or (entry.session, entry.round) in rounds:
                raise _broken(entry, position, "names a round that an earlier entry has already")
            rounds.add((entry.session, entry.round))
        if entry.kind is not EntryKind.SEED and entry.parent != model_id and entry.kind is not EntryKind.ROLLBACK:
            raise _broken(entry, position, "does not follow from the model before it")
        previous, model_id, length = entry.hash, entry.model_id, position + 1
        seen_head = seen_head or entry.hash == expected_head
    if not seen_head:
        raise TrailCut(
            "trail_cut",
            f"the trail of {length} entries does not hold the entry {expected_head}",
            fix="Entries were cut off or replaced: restore the state store from a backup that has it.",
            where={"federation": federation},
        )
    return VerifiedTrail(length, previous)


def _check_entry(entry: TrailEntry, position: int, previous: str, federation: str) -> None:
    if entry.index != position:
        raise _broken(entry, position, f"says index {entry.index}; one was dropped or put in between")
    if entry.federation != federation:
        raise _broken(entry, position, f"belongs to the federation {entry.federation!r}")
    if entry.previous != previous:
        raise _broken(entry, position, "does not point to the entry before it")
    if entry.hash != entry_hash(entry):
        raise _broken(entry, position, "was changed: its hash does not fit its content")


def _broken(entry: TrailEntry, position: int, how: str) -> IntegrityError:
    return IntegrityError(
        "trail_broken",
        f"trail entry {position} {how}",
        fix="The state store was tampered with or damaged: restore it from a backup.",
        where={"index": position, "hash": entry.hash},
    )


class ValidationRecord(Frozen):
    """Metrics of a trail entry's model at one client. Append-only; not part of the entry."""

    federation: str
    entry_hash: str
    model_id: str
    session: str
    client: str
    metrics: dict[str, float]
    num_examples: int = 0
    time: float
