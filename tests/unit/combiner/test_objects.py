"""Objects as shared messages: cut, joined, resumed, verified, and let go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.combiner.objects import IncomingObject, ObjectCache, StoredObject, cut, evenly
from fedn.combiner.options import KEEP_OBJECTS
from fedn.models.digest import digest
from fedn.models.pieces import Pieces
from fedn.network.frames import CHUNK_BYTES, decode_piece, encode_piece
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import IntegrityError, LimitExceeded

KIND = wire.OBJECT_KIND_MODEL


def received(data: bytes, sizes: list[int]) -> StoredObject:
    """The object, as it arrives in pieces of these sizes (the last one takes the rest)."""
    incoming = IncomingObject(wire.ObjectBegin(object_id=digest(data), kind=KIND, size_bytes=len(data)), len(data))
    stored, offset = incoming.whole() if not data else None, 0
    for size in [*sizes, len(data)]:
        part = data[offset : offset + size]
        if part:
            message = encode_piece(offset, part)
            stored = incoming.feed(offset, memoryview(part), message)
            offset += len(part)
    assert stored is not None
    return stored


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=8), st.integers(0, 300))
def test_from_any_offset_the_messages_carry_the_rest(data: bytes, sizes: list[int], offset: int) -> None:
    stored = received(data, sizes)
    offset = min(offset, len(data))
    found, position = b"", offset
    for message in stored.messages(offset):
        piece = decode_piece(message)
        assert piece is not None and piece[0] == position
        found += piece[1]
        position += len(piece[1])
    assert found == data[offset:]
    assert stored.bytes_in_pieces().copy() == data
    assert stored.bytes_in_pieces().copy(0, offset) == data[:offset]


def test_what_is_cut_here_is_cut_in_chunks() -> None:
    data = bytes(2 * CHUNK_BYTES + 5)
    stored = cut(KIND, evenly(Pieces.of(data)), "blake3")
    assert [offset for offset, _ in stored.pieces] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert stored.bytes_in_pieces().copy() == data


def test_everybody_gets_the_same_messages() -> None:
    stored = received(b"abcdefgh", [3])
    assert [id(message) for message in stored.messages()] == [id(message) for message in stored.messages()]


def test_damage_on_the_way_is_noticed() -> None:
    begin = wire.ObjectBegin(object_id=digest(b"abcd"), kind=KIND, size_bytes=4)
    for offset, data in ((0, b"abcX"), (1, b"abc"), (0, b"abcde")):
        with pytest.raises(IntegrityError, match="transfer_damaged"):
            IncomingObject(begin, 100).feed(offset, memoryview(data), encode_piece(offset, data))


def test_an_object_over_the_limit_is_refused_before_its_first_byte() -> None:
    with pytest.raises(LimitExceeded, match="object_too_large"):
        IncomingObject(wire.ObjectBegin(object_id=digest(b""), kind=KIND, size_bytes=11), 10)


def filled(cache: ObjectCache, count: int) -> list[str]:
    found = []
    for number in range(count):
        data = bytes([number]) * 10
        cache.add(cut(KIND, evenly(Pieces.of(data)), "blake3"))
        found.append(digest(data))
    return found


def test_what_nobody_needs_goes_the_longest_unused_first() -> None:
    cache = ObjectCache(max_bytes=30)
    ids = filled(cache, 3)
    cache.get(ids[0])
    data = b"y" * 10
    cache.add(cut(KIND, evenly(Pieces.of(data)), "blake3"))
    assert [object_id in cache for object_id in ids] == [True, False, True]
    assert cache.held_bytes == 30


def test_pinned_objects_stay_until_all_their_owners_let_go() -> None:
    cache = ObjectCache(max_bytes=0)
    first = digest(bytes([0]) * 10)
    cache.pin(first, "round 1")
    cache.pin(first, "round 2")
    filled(cache, 3)
    assert first in cache
    cache.unpin("round 1")
    assert first in cache
    cache.unpin("round 2")
    assert first not in cache


def test_the_newest_stays_whatever_its_size() -> None:
    cache = ObjectCache(max_bytes=5)
    ids = filled(cache, 3)
    assert [object_id in cache for object_id in ids] == [False, False, True]


def test_many_small_objects_are_bounded_by_number() -> None:
    cache = ObjectCache()
    ids = filled(cache, 100)
    assert sum(object_id in cache for object_id in ids) == KEEP_OBJECTS


def test_a_large_object_that_is_let_go_makes_room_at_once_unless_somebody_else_pins_it() -> None:
    cache = ObjectCache(max_bytes=5)
    (object_id,) = filled(cache, 1)
    for owner in ("a", "b"):
        cache.pin(object_id, owner)
    cache.let_go(object_id, "a")
    assert object_id in cache
    cache.let_go(object_id, "b")
    assert object_id not in cache


def test_a_small_object_that_is_let_go_stays_at_hand() -> None:
    cache = ObjectCache(max_bytes=100)
    (object_id,) = filled(cache, 1)
    cache.pin(object_id, "a")
    cache.let_go(object_id, "a")
    assert object_id in cache


@given(st.binary(max_size=64), st.lists(st.integers(1, 9)), st.integers(0, 64))
def test_messages_say_how_many_of_the_objects_bytes_they_carry(data: bytes, sizes: list[int], offset: int) -> None:
    stored = received(data, sizes)
    offset = min(offset, len(data))
    told = [size for size, _ in stored.sized_messages(offset)]
    carried = [piece[1].nbytes for message in stored.messages(offset) if (piece := decode_piece(message))]
    assert told == carried
    assert sum(told) == len(data) - offset
