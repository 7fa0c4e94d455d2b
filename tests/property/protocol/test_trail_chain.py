"""The chain of trail entries proves that nothing was changed, dropped, put in between or cut off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.protocol.errors import IntegrityError
from fedn.protocol.rounds import CombinerModel, Contribution
from fedn.protocol.trail import (
    GENESIS,
    EntryKind,
    TrailEntry,
    canonical_json,
    digest_json,
    entry_hash,
    seal,
    verify_chain,
)


def sign(data: bytes) -> bytes:
    return b"signed " + data[::-1]


def check_signature(entry: TrailEntry) -> None:
    if seal(entry, entry.key_id, sign).signature != entry.signature:
        raise IntegrityError("bad_signature", "not signed by the reducer")


def chain(length: int) -> list[TrailEntry]:
    entries: list[TrailEntry] = []
    for index in range(length):
        entry = TrailEntry(
            federation="f",
            index=index,
            kind=EntryKind.ROUND if index else EntryKind.SEED,
            session="s" if index else "",
            round=index - 1 if index else None,
            epoch=1,
            model_id=f"blake3:{index:064x}",
            parent=f"blake3:{index - 1:064x}" if index else "",
            combiner_models=(
                CombinerModel(
                    combiner="c",
                    model_id="m",
                    weight=2.5,
                    memory_bytes=index,
                    contributions=(
                        Contribution(
                            client="a",
                            update_id="u",
                            num_examples=2,
                            weight=2.5,
                            base_index=index - 1 if index else None,
                        ),
                    ),
                ),
            ),
            metrics={"loss": 0.1 * index},
            time=1000.0 + index,
            previous=entries[-1].hash if entries else GENESIS,
        )
        entries.append(seal(entry, "sha256:k", sign))
    return entries


def check(entries, head=None):
    return verify_chain(entries, check_signature, federation="f", expected_head=head)


def test_what_a_field_of_later_says_is_hashed_and_its_absence_is_not():
    first, later = chain(2)[:2]
    for entry, there in ((first, False), (later, True)):
        value = entry.model_dump(mode="json", exclude={"hash", "signature"})
        (model,) = value["combiner_models"]
        del model["base_index"]
        if not there:
            del model["memory_bytes"], model["contributions"][0]["base_index"]
        assert entry.hash == digest_json(value)


@given(st.integers(0, 6))
def test_an_honest_chain_is_good(length):
    entries = chain(length)
    result = check(entries)
    assert result.length == length
    assert result.head == (entries[-1].hash if entries else GENESIS)
    for entry in entries:
        assert check(entries, entry.hash) == result


changes = st.sampled_from(
    [
        {"model_id": "blake3:" + "f" * 64},
        {"metrics": {"loss": 99.0}},
        {"time": 0.0},
        {"epoch": 9},
        {"combiner_models": ()},
        {"key_id": "sha256:other"},
        {"plan_digest": "x"},
        {"federation": "g"},
    ]
)


@given(st.integers(1, 6), st.data(), changes, st.booleans())
def test_a_changed_entry_is_found_even_if_its_hash_is_made_to_fit(length, data, change, rehash):
    entries = chain(length)
    at = data.draw(st.integers(0, length - 1))
    forged = entries[at].model_copy(update=change)
    if rehash:
        forged = forged.model_copy(update={"hash": entry_hash(forged)})
    entries[at] = forged
    with pytest.raises(IntegrityError):
        check(entries)


@given(st.integers(2, 6), st.data())
def test_a_dropped_or_repeated_entry_is_found(length, data):
    entries = chain(length)
    at = data.draw(st.integers(0, length - 2))
    with pytest.raises(IntegrityError):
        check(entries[:at] + entries[at + 1 :])
    with pytest.raises(IntegrityError):
        check([*entries[: at + 1], entries[at], *entries[at + 1 :]])


@given(st.integers(1, 6), st.data())
def test_a_cut_chain_is_found_by_whoever_remembers_the_head(length, data):
    entries = chain(length)
    cut = entries[: data.draw(st.integers(0, length - 1))]
    assert check(cut).length == len(cut)
    with pytest.raises(IntegrityError, match="cut off"):
        check(cut, entries[-1].hash)


def test_a_round_that_is_there_twice_is_found():
    entries = chain(2)
    again = entries[-1].model_copy(
        update={
            "index": 2,
            "previous": entries[-1].hash,
            "parent": entries[-1].model_id,
            "model_id": "blake3:" + "a" * 64,
        }
    )
    with pytest.raises(IntegrityError, match="round that an earlier entry has"):
        check([*entries, seal(again, "sha256:k", sign)])


def test_canonical_json_depends_on_the_value_alone():
    assert canonical_json({"b": 1.0, "a": "ä"}) == canonical_json({"a": "ä", "b": 1.0}) == '{"a":"ä","b":1.0}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})
