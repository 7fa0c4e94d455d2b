"""The checks of an upload while it arrives: digest, headers against the base model or its encoding, finite numbers.

Not here: what can be checked only when all is there, and unpacked (fedn.combiner.coding).
"""

from collections.abc import Sequence

from fedn.aggregation.checks import FiniteCheck, check_header
from fedn.combiner.options import HEADER_SLACK_BYTES
from fedn.models.codecs.chain import Encoding
from fedn.models.codecs.payload import check_payload_header
from fedn.models.digest import Buffer, Hasher
from fedn.models.wire import ModelSpec, header_size, read_spec
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.names import check_digest

_LENGTH_BYTES = 8
"""A model's bytes begin with the length of its header."""

ExpectedSections = Sequence[tuple[int, ModelSpec]]
"""Size and content of each section that follows an update's tensors."""


class ArrivalCheck:
    """Looks at each byte once, in order, while it is in the processor's cache.

    Args:
        object_id: the digest that the bytes must have.
        size_bytes: of the whole upload.
        base, encoding: as for `ContentCheck`, of the update's own tensors.
        sections: that follow them; smaller together than the whole.
    """

    def __init__(
        self,
        object_id: str,
        size_bytes: int,
        base: ModelSpec | None,
        encoding: Encoding | None = None,
        sections: ExpectedSections = (),
    ) -> None:
        self._object_id = object_id
        self._hasher = Hasher(check_digest(object_id)[0])
        own_bytes = size_bytes - sum(size for size, _ in sections)
        self._own = ContentCheck(own_bytes, base, encoding)
        self._parts: list[tuple[int, int, ContentCheck]] = [(0, own_bytes, self._own)]
        """(Start, stop, check) of each part of the bytes."""
        for size, spec in sections:
            start = self._parts[-1][1]
            self._parts.append((start, start + size, ContentCheck(size, spec)))

    def feed(self, offset: int, data: memoryview) -> None:
        """Takes the next bytes; `offset` is where they lie in the upload.

        Raises:
            UpdateRefused, InvalidInput: it can never become a valid update.
        """
        self._hasher.update(data)
        end = offset + len(data)
        for start, stop, check in self._parts:
            if start < end and offset < stop:
                begin = max(offset, start)
                check.feed(begin - start, data[begin - offset : min(end, stop) - offset])

    def finish(self) -> ModelSpec | None:
        """What the update holds, without its sections; None where it is packed.

        All bytes were fed. UpdateRefused where a number is not finite or the digest is another one.
        """
        for _, _, check in self._parts:
            check.check_whole()
        if self._hasher.digest() != self._object_id:
            raise UpdateRefused(
                "update_digest_wrong",
                "the bytes that arrived are not those that were announced",
                fix="Send it again; if this repeats, look at the client's memory and disk.",
                where={"object": self._object_id},
            )
        for _, _, check in self._parts:
            check.check_numbers()
        return self._own.spec


class ContentCheck:
    """Of bytes that are one model.

    Args:
        size_bytes: of them all.
        base: what names, shapes and dtypes must be like; None where any model is welcome (init, predict).
        encoding: of the chain that it went through; packed bytes say nothing while they arrive.
    """

    def __init__(self, size_bytes: int, base: ModelSpec | None, encoding: Encoding | None = None) -> None:
        self.spec: ModelSpec | None = None
        """What they hold, once their header is there."""
        self._encoding = encoding
        self._packed = encoding is not None and encoding.chain.bytes is not None
        self._size_bytes = size_bytes
        self._base = base
        self._head = bytearray()
        """The beginning, until the header is there whole."""
        self._finite: FiniteCheck | None = None

    def feed(self, offset: int, data: memoryview) -> None:
        """As `ArrivalCheck.feed`; `offset` is among these bytes."""
        if self._packed:
            return
        if self._finite is not None:
            self._finite.feed(offset, data)
            return
        head = self._header(data)
        if head is None:
            return
        spec, header_bytes = read_spec(head, self._size_bytes), len(head)
        if self._encoding is not None:
            check_payload_header(spec, self._encoding.spec)
        elif self._base is not None:
            check_header(spec, self._base)
        self.spec, self._finite = spec, FiniteCheck(spec)
        self._finite.feed(header_bytes, data[header_bytes - offset :])

    def _header(self, data: memoryview) -> Buffer | None:
        """The header with its length field, once the next bytes complete it; then nothing is kept of it."""
        header_bytes = header_size(self._head[:_LENGTH_BYTES] + data[:_LENGTH_BYTES])
        if header_bytes is not None and header_bytes > self._max_header_bytes():
            raise UpdateRefused(
                "update_does_not_fit",
                f"its header claims {header_bytes} bytes",
                fix="Return the tensors of the model that the task named.",
            )
        if header_bytes is None or header_bytes > len(self._head) + len(data):
            self._head += data
            return None
        if not self._head:
            return data[:header_bytes]  # mostly: it need not be copied with all that came with it
        head, self._head = self._head + data[: header_bytes - len(self._head)], bytearray()
        return head

    def check_whole(self) -> None:
        """All bytes were fed. UpdateRefused where they end too early."""
        if self._finite is None and not self._packed:
            raise UpdateRefused("bad_model", "its bytes end before its header does")

    def check_numbers(self) -> None:
        """UpdateRefused where a number is not finite."""
        if self._finite is not None:
            self._finite.finish()

    def _max_header_bytes(self) -> int:
        expected = self._encoding.spec if self._encoding is not None else self._base
        base_header = min((tensor.start for tensor in expected.tensors), default=0) if expected is not None else 0
        return base_header + 16 * HEADER_SLACK_BYTES
