"""What all model stores share: the check of bytes against their digest, and the errors that they raise alike."""

import errno
from collections.abc import Iterable

from fedn.models.digest import Hasher
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, NotFound, StoreUnavailable
from fedn.protocol.names import check_digest
from fedn.stores.base import ModelStore

Buffer = bytes | bytearray | memoryview

PIECE_BYTES = 1 << 20
"""The largest piece that `ModelStore.read` yields."""
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the operating system says when there is no room."""


class Checked:
    """What the writers of all stores share: counts and hashes the bytes of an object, and compares them with its name.

    Args:
        algorithm: of the digest.
        size_bytes: announced.
    """

    def __init__(self, algorithm: str, size_bytes: int) -> None:
        self._hasher = Hasher(algorithm)
        self._size_bytes = size_bytes
        self.received = 0
        """Bytes that were added."""

    def fitting(self, data: Buffer) -> memoryview:
        """A view of the next bytes, not added yet. IntegrityError (`digest_mismatch`) where they are too many."""
        view = memoryview(data).cast("B")
        if self.received + view.nbytes > self._size_bytes:
            raise _mismatch(f"more than the {self._size_bytes} bytes announced arrived")
        return view

    def add(self, view: memoryview) -> None:
        """Takes what `fitting` returned."""
        self._hasher.update(view)
        self.received += view.nbytes

    def digest(self) -> str:
        """Of what was added so far."""
        return self._hasher.digest()

    def check(self, object_id: str) -> None:
        """IntegrityError (`digest_mismatch`) unless all the bytes came and have this name."""
        if self.received != self._size_bytes:
            raise _mismatch(f"{self.received} bytes arrived instead of {self._size_bytes}", object=object_id)
        found = self.digest()
        if found != object_id:
            raise _mismatch(f"the bytes have the digest {found}", object=object_id)


def put_through(store: ModelStore, object_id: str, chunks: Iterable[Buffer], size_bytes: int) -> None:
    """`ModelStore.put` by way of a writer. Errors of the chunks' source come through as they are."""
    algorithm, _ = check_digest(object_id)
    with store.writer(algorithm, size_bytes) as writer:
        for chunk in chunks:
            writer.write(chunk)
        writer.keep(object_id)


def check_offset(offset: int) -> None:
    """InvalidInput (`bad_offset`) where a read would start before the first byte."""
    if offset < 0:
        raise InvalidInput("bad_offset", f"an object cannot be read from byte {offset} on", fix="Start at 0 or later.")


def no_such_object(object_id: str) -> NotFound:
    return NotFound(
        "no_such_object",
        "the model store has no object of this digest",
        fix="List what there is with `fedn model list`; an object that was never referenced may have been collected.",
        where={"object": object_id},
    )


def store_full(where: str, reason: object) -> StoreUnavailable:
    return StoreUnavailable(
        "store_full",
        f"the store has no space left: {reason}",
        fix="Free or add space; `fedn store gc` removes objects that nothing refers to.",
        where={"store": where},
    )


def store_away(where: str, reason: object) -> StoreUnavailable:
    return StoreUnavailable(
        "store_unavailable",
        f"the store does not answer: {reason}",
        fix="Check that it runs and can be reached at this address.",
        where={"store": where},
    )


def _mismatch(how: str, **where: object) -> FednError:
    return IntegrityError(
        "digest_mismatch",
        f"an object was not stored: {how}",
        fix="It was damaged or cut off on its way: send it again.",
        where=where,
    )
