import threading
from pathlib import Path
from typing import Any

import pytest

from fedn.network.tokens import Signer
from fedn.protocol.errors import Conflict, IntegrityError, NotFound, StoreUnavailable
from fedn.protocol.trail import EntryKind, TrailEntry, ValidationRecord, seal
from fedn.reducer.trail import Trail
from fedn.stores.sqlite import SqliteStateStore

A, B, C = (f"blake3:{letter * 64}" for letter in "abc")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "trail.key")


@pytest.fixture
def trail(state: SqliteStateStore, signer: Signer) -> Trail:
    return Trail(state, "fed", signer, epoch=3)


def append_round(trail: Trail, index: int, model_id: str, parent: str, session: str = "s1") -> TrailEntry:
    return trail.append_round(
        session=session,
        round=index,
        model_id=model_id,
        parent=parent,
        plan_digest="sha256:" + "0" * 64,
        combiner_models=(),
        metrics={"loss": 0.5},
    )


class Forgetful:
    """A state store that commits the next entry and then breaks off before it says so."""

    def __init__(self, store: SqliteStateStore, *, commits: bool) -> None:
        self._store = store
        self._commits = commits
        self.breaks = True

    def append_entry(self, entry: TrailEntry) -> None:
        if self._commits or not self.breaks:
            self._store.append_entry(entry)
        if self.breaks:
            self.breaks = False
            raise StoreUnavailable("store_unavailable", "the connection broke")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_seed_rounds_and_rollback_make_a_chain_that_verifies(trail: Trail) -> None:
    trail.append_seed(A)
    append_round(trail, 0, B, A)
    append_round(trail, 1, C, B)
    back = trail.append_rollback(A)
    append_round(trail, 0, B, A, session="s2")
    assert [entry.kind for entry in trail.entries()] == [
        EntryKind.SEED,
        EntryKind.ROUND,
        EntryKind.ROUND,
        EntryKind.ROLLBACK,
        EntryKind.ROUND,
    ]
    assert trail.verify(back.hash).length == 5
    assert {entry.epoch for entry in trail.entries()} == {3}


def test_another_process_goes_on_where_the_first_ended(trail: Trail, state: SqliteStateStore, signer: Signer) -> None:
    trail.append_seed(A)
    later = Trail(state, "fed", signer, epoch=4)
    append_round(later, 0, B, A)
    assert later.verify().length == 2


def test_a_round_that_started_from_another_model_is_refused(trail: Trail) -> None:
    trail.append_seed(A)
    with pytest.raises(Conflict, match="parent_not_head"):
        append_round(trail, 0, C, B)


def test_a_round_is_committed_once(trail: Trail) -> None:
    trail.append_seed(A)
    entry = append_round(trail, 0, B, A)
    assert append_round(trail, 0, B, A) == entry
    with pytest.raises(Conflict, match="trail_conflict"):
        append_round(trail, 0, C, B)
    assert len(trail.entries()) == 2


@pytest.mark.parametrize("commits", [True, False])
def test_an_append_is_repeatable_when_its_outcome_is_unknown(
    state: SqliteStateStore, signer: Signer, commits: bool
) -> None:
    trail = Trail(Forgetful(state, commits=commits), "fed", signer, epoch=1)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        trail.append_seed(A)
    entry = trail.append_seed(A)
    assert trail.entries() == [entry]
    assert append_round(trail, 0, B, A).index == 1


def test_threads_never_share_an_index(trail: Trail) -> None:
    models = [f"blake3:{index:064x}" for index in range(20)]
    threads = [threading.Thread(target=trail.append_seed, args=[model]) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trail.verify().length == 20


def test_the_latest_entry_of_a_model_is_found(trail: Trail) -> None:
    trail.append_seed(A)
    assert trail.entry_of(A).index == 0
    append_round(trail, 0, B, A)
    trail.append_rollback(A)
    assert trail.entry_of(A).index == 2
    with pytest.raises(NotFound, match="no_such_model"):
        trail.entry_of(C)
    with pytest.raises(NotFound, match="no_such_model"):
        trail.append_rollback(C)


def test_an_entry_sealed_with_another_key_does_not_verify(
    trail: Trail, state: SqliteStateStore, tmp_path: Path
) -> None:
    trail.append_seed(A)
    head = trail.head()
    assert head is not None
    stranger = Signer(tmp_path / "stranger.key")
    forged = TrailEntry(
        federation="fed", index=1, kind=EntryKind.SEED, epoch=3, model_id=B, time=1.0, previous=head.hash
    )
    state.append_entry(seal(forged, stranger.key_id, stranger.sign))
    with pytest.raises(IntegrityError, match="trail_broken"):
        trail.verify()


def test_a_signature_that_claims_the_right_key_does_not_verify(
    trail: Trail, state: SqliteStateStore, signer: Signer, tmp_path: Path
) -> None:
    entry = TrailEntry(
        federation="fed", index=0, kind=EntryKind.SEED, epoch=3, model_id=B, time=1.0, previous="sha256:" + "0" * 64
    )
    state.append_entry(seal(entry, signer.key_id, Signer(tmp_path / "stranger.key").sign))
    with pytest.raises(IntegrityError, match="trail_broken"):
        trail.verify()


def test_a_trail_without_the_head_that_somebody_saw_was_cut(trail: Trail) -> None:
    trail.append_seed(A)
    with pytest.raises(IntegrityError, match="trail_cut"):
        trail.verify("sha256:" + "f" * 64)


def test_validations_are_kept_once_and_may_be_diverged(trail: Trail) -> None:
    entry = trail.append_seed(A)
    record = ValidationRecord(
        federation="fed",
        entry_hash=entry.hash,
        model_id=A,
        session="s1",
        client="eins",
        metrics={"loss": float("inf"), "accuracy": 0.25},
        num_examples=7,
        time=2.0,
    )
    trail.add_validations([record])
    again = record.model_copy(update={"metrics": {"accuracy": 1.0}})
    trail.add_validations([again, record.model_copy(update={"client": "zwei", "session": "s2", "time": 1.0})])
    assert [found.client for found in trail.validations(entry_hash=entry.hash)] == ["zwei", "eins"]
    assert trail.validations(session="s1") == [record]
    assert trail.count_validations(session="s1") == 1
