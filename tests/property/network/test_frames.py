"""Pieces of objects: our head, and what generated code writes, are the same messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.network.frames import HEAD_BYTES, decode_control, decode_piece, encode_piece, encode_pieces
from fedn.network.generated import client_pb2
from fedn.protocol.errors import InvalidInput

offsets = st.integers(0, 2**64 - 1)


@given(offsets, st.binary(max_size=40_000))
def test_our_piece_is_read_by_us_and_by_generated_code(offset, data):
    message = encode_piece(offset, data)
    assert len(message) == HEAD_BYTES + len(data)
    assert decode_piece(message) == (offset, data)
    frame = client_pb2.ClientFrame.FromString(message)
    assert (frame.offset, frame.data, frame.WhichOneof("control")) == (offset, data, None)


@given(offsets, st.binary(min_size=1, max_size=40_000))
def test_a_piece_of_generated_code_is_read_by_us(offset, data):
    message = client_pb2.CombinerFrame(offset=offset, data=data).SerializeToString()
    assert decode_piece(message) == (offset, data)


@given(st.binary(max_size=5000), st.integers(0, 6000), st.integers(1, 700))
def test_pieces_put_together_are_the_object_from_the_offset_on(data, offset, chunk_bytes):
    pieces = [decode_piece(message) for message in encode_pieces(data, offset, chunk_bytes)]
    at = offset
    for start, piece in pieces:
        assert start == at
        assert 0 < len(piece) <= chunk_bytes
        at += len(piece)
    assert b"".join(piece for _, piece in pieces) == data[offset:]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_piece_a_control_message_or_refused(message):
    try:
        if decode_piece(message) is None:
            decode_control(client_pb2.ClientFrame, message)
    except InvalidInput as error:
        assert error.code == "bad_frame"  # noqa: PT017


def test_a_cut_piece_is_refused():
    with pytest.raises(InvalidInput, match="length"):
        decode_piece(encode_piece(7, b"x" * 100)[:-1])


def test_control_messages_are_no_pieces():
    ping = client_pb2.ClientFrame(ping={"nonce": 3}).SerializeToString()
    assert decode_piece(ping) is None
    assert decode_control(client_pb2.ClientFrame, ping).ping.nonce == 3
