"""What all model stores share: the check of bytes against their digest, and the errors that they raise alike."""

import errno
from collections.abc import Iterable, Iterator

from fedn.models.digest import Hasher
from fedn.protocol.errors import FednError, IntegrityError, InvalidInput, NotFound, StoreUnavailable
from fedn.protocol.names import check_digest

PIECE_BYTES = 1 << 20
"""The largest piece that `ModelStore.read` yields."""
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the operating system says when there is no room."""


def verified(object_id: str, chunks: Iterable[bytes | bytearray | memoryview], size_bytes: int) -> Iterator[memoryview]:
    """The chunks as they are, without a copy; what was taken is good only once the iteration has ended by itself.

    Raises:
        InvalidInput: (`bad_digest`) `object_id` is no digest.
        IntegrityError: (`digest_mismatch`) after the last chunk, or at the first one beyond `size_bytes`.
    """
    algorithm, _ = check_digest(object_id)
    hasher = Hasher(algorithm)
    received = 0
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        received += view.nbytes
        if received > size_bytes:
            raise _mismatch(object_id, f"more than the {size_bytes} bytes announced arrived")
        hasher.update(view)
        yield view
    if received != size_bytes:
        raise _mismatch(object_id, f"{received} bytes arrived instead of {size_bytes}")
    if hasher.digest() != object_id:
        raise _mismatch(object_id, f"the bytes have the digest {hasher.digest()}")


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


def _mismatch(object_id: str, how: str) -> FednError:
    return IntegrityError(
        "digest_mismatch",
        f"an object was not stored: {how}",
        fix="It was damaged or cut off on its way: send it again.",
        where={"object": object_id},
    )
