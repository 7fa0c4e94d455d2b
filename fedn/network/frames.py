"""Frames: the messages of every stream, either a control message or a piece of an object's bytes.

A piece is written and read without protobuf, so that its bytes are copied once and the same message can be handed to
many streams. Its head has always 16 bytes, so that the data behind it is aligned for NumPy:

    09 <offset: 8 bytes, little endian>   field 1, fixed64
    82 01 <length: 5 bytes>               field 16, length-delimited; the length is a varint padded to 5 bytes
    <data>

A padded varint is legal protobuf: generated code of any language reads such a message, and what generated code writes
(a shorter length) is read here too.
"""

import struct
from collections.abc import Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from fedn.protocol.errors import InvalidInput

CHUNK_BYTES = 1 << 20
"""Size of the pieces that we send: larger ones were slower when measured, smaller ones cost more calls."""

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message that a server of ours accepts: a task list for 10,000 clients fits."""

HEAD_BYTES = 16
_HEAD = struct.Struct("<BQBB5B")
_OFFSET = struct.Struct("<Q")
_MAX_LENGTH = 1 << 31

Buffer = bytes | bytearray | memoryview


def encode_piece(offset: int, data: Buffer) -> bytes:
    """The message that carries `data`, which lies at `offset` (bytes) in the object."""
    size = len(data)
    length = [(size >> (7 * i)) & 0x7F | (0x80 if i < 4 else 0) for i in range(5)]
    return b"".join((_HEAD.pack(0x09, offset, 0x82, 0x01, *length), data))


def encode_pieces(buffer: Buffer, offset: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The messages that carry `buffer` from `offset` on."""
    view = memoryview(buffer)
    for start in range(offset, len(view), chunk_bytes):
        yield encode_piece(start, view[start : start + chunk_bytes])


def decode_piece(message: Buffer) -> tuple[int, memoryview] | None:
    """(offset, data) of a piece, data being a view into the message; None where it is a control message."""
    if len(message) < 2:
        return None
    if message[0] == 0x09 and len(message) >= 11 and message[9] == 0x82 and message[10] == 0x01:
        start, (offset,) = 11, _OFFSET.unpack_from(message, 1)
    elif message[0] == 0x82 and message[1] == 0x01:  # a generated writer leaves out an offset of 0
        start, offset = 2, 0
    else:
        return None
    size = shift = 0
    for position in range(start, min(start + 5, len(message))):
        byte = message[position]
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if position + 1 + size != len(message) or size >= _MAX_LENGTH:
                break
            return offset, memoryview(message)[position + 1 :]
    raise InvalidInput(
        "bad_frame", "a piece's length does not fit its message", fix="The peer speaks another protocol."
    )


class _Frame(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802 (protobuf's name)


FrameT = TypeVar("FrameT", bound=_Frame)


def decode_control(frame_type: type[FrameT], message: Buffer) -> FrameT:
    """A control message. InvalidInput (`bad_frame`) where the bytes are none."""
    try:
        return frame_type.FromString(bytes(message))  # type: ignore[attr-defined, no-any-return]
    except DecodeError as error:
        raise InvalidInput(
            "bad_frame",
            f"a message of {len(message)} bytes is no {frame_type.__name__}",
            fix="The peer speaks another protocol or version: update it.",
        ) from error
