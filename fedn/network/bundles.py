"""Bundles: several small frames in one message of a stream.

A message costs its sender and its reader a fixed time, whatever its size, and small rounds are made of small messages.
A bundle is legal protobuf (fields 17 and 18 of each frame). It is sent only to a peer that says it reads bundles. It is
laid out so that the data of a piece inside it is aligned for NumPy, as in a piece that comes alone.
"""

import struct
from collections.abc import Callable, Sequence

from fedn.network.frames import Buffer
from fedn.protocol.errors import InvalidInput

BUNDLE_BYTES = 1 << 19
"""Bundles are not made larger than that: what is larger is sent as it is, without a copy."""

_FRAME, _PADDING = 0x8A, 0x92
"""First byte of each field's tag; the second one is 1 for both."""
_FRAME_HEAD = struct.Struct("<BB5B")
_ALIGNMENT = 8


def encode_bundle(messages: Sequence[bytes]) -> bytes:
    """The message that carries these messages, in order."""
    parts: list[bytes] = []
    position = 0
    for message in messages:
        missing = -(position + _FRAME_HEAD.size) % _ALIGNMENT
        if missing:
            size = missing - 3 if missing >= 3 else missing + _ALIGNMENT - 3
            parts.append(bytes((_PADDING, 1, size)) + bytes(size))
            position += 3 + size
        length = [(len(message) >> (7 * i)) & 0x7F | (0x80 if i < 4 else 0) for i in range(5)]
        parts += (_FRAME_HEAD.pack(_FRAME, 1, *length), message)
        position += _FRAME_HEAD.size + len(message)
    return b"".join(parts)


def split(message: bytes) -> Sequence[Buffer]:
    """The frames of a message, as views into it; the message itself where it is no bundle.

    Raises:
        InvalidInput: (`bad_frame`) it begins as a bundle and is none.
    """
    if len(message) < 2 or message[0] not in {_FRAME, _PADDING} or message[1] != 1:
        return (message,)
    frames: list[Buffer] = []
    view, position = memoryview(message), 0
    while position < len(view):
        tag, size, start = _field(view, position)
        if tag == _FRAME:
            frames.append(view[start : start + size])
        position = start + size
    return frames


def _field(view: memoryview, position: int) -> tuple[int, int, int]:
    """(tag, length, where its bytes begin) of the field at `position`."""
    if position + 3 <= len(view) and view[position] in {_FRAME, _PADDING} and view[position + 1] == 1:
        size = shift = 0
        for at in range(position + 2, min(position + 7, len(view))):
            size |= (view[at] & 0x7F) << shift
            shift += 7
            if view[at] < 0x80:
                if at + 1 + size > len(view):
                    break
                return view[position], size, at + 1
    raise InvalidInput("bad_frame", "a bundle of frames is damaged", fix="The peer speaks another protocol.")


class Bundler:
    """Takes messages from a queue and gives them out, small ones together.

    It does not keep the queue: who owns both would hang together with it in a circle, which only a search for garbage
    finds, and with it the connection.
    """

    def __init__(self) -> None:
        self.enabled = False
        """Whether the peer reads bundles."""
        self._held: bytes | None = None
        """Taken from the queue, and too large for the bundle before it."""

    def take(self, next_message: Callable[[], bytes | None]) -> bytes | None:
        """What to write next; None where nothing waits.

        Args:
            next_message: takes the next one that waits from the queue, or gives None.
        """
        held, self._held = self._held, None
        first = held if held is not None else next_message()
        if first is None or not self.enabled or len(first) > BUNDLE_BYTES:
            return first
        batch, size = [first], len(first)
        while (message := next_message()) is not None:
            size += len(message)
            if size > BUNDLE_BYTES:
                self._held = message
                break
            batch.append(message)
        return first if len(batch) == 1 else encode_bundle(batch)
