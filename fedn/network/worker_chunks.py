"""Chunks: the pieces in which a frame travels from one worker to another, read and written without protobuf.

    0d <sender: 4>  15 <receiver: 4>  19 <sequence: 8>  21 <left: 8>  82 01 <length: 5 bytes>  <data>

All integers are little endian; the length is a varint padded to 5 bytes. Generated code of any language reads it as a
WorkerFrame. A combiner looks at the head and hands on the message as it came. This fixed form is the only one that is
read: writers in other languages build it as it stands here.
"""

import struct
from dataclasses import dataclass

from fedn.network.frames import Buffer
from fedn.protocol.errors import InvalidInput

CHUNK_BYTES = 1 << 18
"""Data of one chunk at the most. A combiner gives each pair of workers credit for one at least."""

_HEAD = struct.Struct("<BIBIBQBQBB5B")
_TAGS = (0x0D, 0x15, 0x19, 0x21, 0x82, 0x01)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a frame."""

    sender: int
    """Rank, as the next one."""
    receiver: int
    sequence: int
    """Number among the chunks of this pair, from 0."""
    left: int
    """Bytes of the frame from this chunk on."""
    data: Buffer

    @property
    def is_last(self) -> bool:
        """Whether the frame ends with it."""
        return self.left == len(self.data)


def encode_chunk(chunk: Chunk) -> bytes:
    """The message that carries a chunk."""
    size = len(chunk.data)
    length = [(size >> (7 * i)) & 0x7F | (0x80 if i < 4 else 0) for i in range(5)]
    head = _HEAD.pack(
        *(0x0D, chunk.sender, 0x15, chunk.receiver, 0x19, chunk.sequence, 0x21, chunk.left, 0x82, 0x01), *length
    )
    return b"".join((head, chunk.data))


def decode_chunk(message: Buffer) -> Chunk | None:
    """A chunk, its data a view into the message; None where it is a control message.

    Raises:
        InvalidInput: (`bad_frame`) it begins as a chunk and is none.
    """
    if len(message) < _HEAD.size or message[0] != _TAGS[0]:
        return None
    fields = _HEAD.unpack_from(message)
    size = 0
    for index, byte in enumerate(fields[10:]):
        size |= (byte & 0x7F) << (7 * index)
    left = fields[7]
    fits = fields[0:9:2] == _TAGS[:5] and fields[9] == _TAGS[5] and size == len(message) - _HEAD.size
    # Only an empty frame has an empty chunk.
    if not fits or size > CHUNK_BYTES or size > left or (size == 0 and left):
        raise InvalidInput(
            "bad_frame",
            f"a message of {len(message)} bytes is no chunk of a frame",
            fix="The peer speaks another protocol or version: update it.",
        )
    return Chunk(fields[1], fields[3], fields[5], left, memoryview(message)[_HEAD.size :])
