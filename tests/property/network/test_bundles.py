"""Several frames in one message: what goes in comes out, aligned, and damage is refused."""

import contextlib
from collections import deque

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedn.network.bundles import BUNDLE_BYTES, Bundler, encode_bundle, split
from fedn.network.frames import HEAD_BYTES, decode_piece, encode_piece
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import InvalidInput


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
@example([b""])
@example([bytes(300), b"x" * 20_000])
def test_frames_come_out_as_they_went_in(messages: list[bytes]) -> None:
    bundle = encode_bundle(messages)
    assert [bytes(frame) for frame in split(bundle)] == messages
    assert list(wire.ClientFrame.FromString(bundle).frames) == messages


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6))
def test_bundles_of_generated_writers_are_read(messages: list[bytes]) -> None:
    message = wire.CombinerFrame(frames=messages, padding=b"abc").SerializeToString()
    assert [bytes(frame) for frame in split(message)] == messages


@given(st.lists(st.binary(max_size=20), max_size=3), st.binary(min_size=1, max_size=64))
def test_the_data_of_a_piece_in_a_bundle_is_aligned(before: list[bytes], data: bytes) -> None:
    bundle = encode_bundle([*before, encode_piece(0, data)])
    start = len(bundle) - len(data)
    assert start % 8 == 0
    piece = decode_piece(split(bundle)[-1])
    assert piece is not None and bytes(piece[1]) == data and HEAD_BYTES % 8 == 0


@given(st.binary(max_size=60), st.booleans())
def test_whatever_comes_is_split_or_refused(data: bytes, like_a_bundle: bool) -> None:
    message = (b"\x8a\x01" if like_a_bundle else b"") + data
    with contextlib.suppress(InvalidInput):
        assert sum(map(len, split(message))) <= len(message)


def test_a_bundle_that_is_cut_off_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bad_frame"):
        split(encode_bundle([b"abcdef"])[:-1])


def taken(messages: list[bytes], *, enabled: bool = True) -> list[bytes]:
    queue = deque(messages)
    bundler = Bundler()
    bundler.enabled = enabled
    found = []
    while (message := bundler.take(lambda: queue.popleft() if queue else None)) is not None:
        found.append(message)
    return found


def test_small_messages_leave_together_and_large_ones_as_they_are() -> None:
    large = bytes(BUNDLE_BYTES + 1)
    messages = [b"a", b"b", large, b"c"]
    found = taken(messages)
    assert [bytes(frame) for message in found for frame in split(message)] == messages
    assert len(found) == 3 and found[1] is large


def test_a_peer_that_reads_no_bundles_gets_none() -> None:
    assert taken([b"a", b"b"], enabled=False) == [b"a", b"b"]
