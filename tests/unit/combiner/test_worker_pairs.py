"""Credit and spool between two workers at their home: bounded for each pair and for the group, and never stuck."""

import pytest

from fedn.combiner.workers.pair import BASE_BYTES, Pair, Pool
from fedn.network.generated import worker_pb2
from fedn.network.worker_chunks import CHUNK_BYTES, Chunk, decode_chunk, encode_chunk
from fedn.protocol.errors import InvalidInput


def add(pair: Pair, sequence: int, size: int = CHUNK_BYTES) -> bool:
    chunk = Chunk(pair.sender, pair.receiver, sequence, size, bytes(size))
    return pair.add(chunk, encode_chunk(chunk)) is not None


def fill(pair: Pair) -> int:
    """As many chunks as there is credit for; how many."""
    pair.want(1 << 40)
    count = 0
    while pair.credit >= (count + 1) * CHUNK_BYTES:
        add(pair, count)
        count += 1
    return count


def test_a_pair_has_its_base_without_asking_and_more_only_when_it_asks() -> None:
    pair = Pair(0, 1, Pool(10 * CHUNK_BYTES), 4 * CHUNK_BYTES)
    assert pair.credit == BASE_BYTES
    assert add(pair, 0)
    with pytest.raises(InvalidInput) as caught:
        add(pair, 1)
    assert caught.value.code == "credit_exceeded"
    assert Pair(0, 1, Pool(10 * CHUNK_BYTES), 4 * CHUNK_BYTES).want(3 * CHUNK_BYTES)


def test_what_is_spooled_for_a_pair_is_bounded_by_its_quota_and_grows_again_with_acknowledgements() -> None:
    pair = Pair(0, 1, Pool(100 * CHUNK_BYTES), 4 * CHUNK_BYTES)
    assert fill(pair) == 4 and pair.held_bytes == 4 * CHUNK_BYTES
    before = pair.credit
    assert pair.acknowledge(3)
    assert pair.credit == before + 3 * CHUNK_BYTES and pair.held_bytes == CHUNK_BYTES
    assert not pair.acknowledge(2)  # an old one says nothing


def test_what_is_spooled_for_a_group_is_bounded_and_every_pair_goes_on_all_the_same() -> None:
    pool = Pool(4 * CHUNK_BYTES)
    hog, other = Pair(0, 1, pool, 100 * CHUNK_BYTES), Pair(2, 3, pool, 100 * CHUNK_BYTES)
    assert fill(hog) == 5  # its base, and the whole pool
    assert pool.free_bytes == 0
    assert fill(other) == 1  # its base
    hog.acknowledge(2)
    assert other in pool.waiting() or pool.free_bytes == 0
    hog.drop()
    assert [pair for pair in pool.waiting() if pair.promise_more()] == [other]
    assert other.credit > CHUNK_BYTES


def test_reconnecting_again_and_again_spools_no_more_than_the_quota() -> None:
    pool = Pool(4 * CHUNK_BYTES)
    pair = Pair(0, 1, pool, 3 * CHUNK_BYTES)
    sequence = 0
    for _ in range(10):
        pair.begin_stream()
        pair.want(1 << 40)
        sent = 0
        while pair.credit >= sent + CHUNK_BYTES:
            add(pair, sequence)
            sequence, sent = sequence + 1, sent + CHUNK_BYTES
    assert pair.held_bytes == 3 * CHUNK_BYTES


def test_a_missing_chunk_is_noticed_and_a_repeated_one_is_dropped() -> None:
    pair = Pair(0, 1, Pool(100 * CHUNK_BYTES), 50 * CHUNK_BYTES)
    pair.want(1 << 40)
    assert add(pair, 7)  # the home was started anew: the sender begins where it has to
    assert not add(pair, 7)
    assert pair.held == 8
    with pytest.raises(InvalidInput) as caught:
        add(pair, 9)
    assert caught.value.code == "chunk_missing"


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES])
def test_a_chunk_is_legal_protobuf(size: int) -> None:
    message = encode_chunk(Chunk(3, 4, 2**40, size, b"x" * size))
    frame = worker_pb2.WorkerFrame.FromString(message)
    assert (frame.sender, frame.receiver, frame.sequence, frame.left) == (3, 4, 2**40, size)
    assert frame.data == b"x" * size


@pytest.mark.parametrize("damage", ["short", "left", "tag", "length"])
def test_what_is_no_chunk_is_refused(damage: str) -> None:
    message = bytearray(encode_chunk(Chunk(3, 4, 5, 10, b"0123456789")))
    if damage == "short":
        message = message[:-1]
    elif damage == "left":
        message[19] = 9
    elif damage == "tag":
        message[5] = 0x16
    else:
        message[30] ^= 1
    with pytest.raises(InvalidInput) as caught:
        decode_chunk(bytes(message))
    assert caught.value.code == "bad_frame"
