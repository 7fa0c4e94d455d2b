"""Digests: the names of models, compute packages and other objects. `<algorithm>:<lower-case hex>`.

Not here: digests of JSON documents (fedn.protocol.trail).
"""

import hashlib
import mmap
import re
from typing import Protocol

from blake3 import blake3

from fedn.protocol.errors import InvalidInput

Buffer = bytes | bytearray | memoryview | mmap.mmap
"""Contiguous bytes that are read in place."""

ALGORITHM = "blake3"
"""What a federation uses unless it chooses `sha256`."""

ALGORITHMS = ("blake3", "sha256")

_DIGEST = re.compile(rf"({'|'.join(ALGORITHMS)}):[0-9a-f]{{64}}")


class _Hash(Protocol):
    def update(self, data: Buffer, /) -> object: ...
    def hexdigest(self) -> str: ...


class Hasher:
    """The digest of bytes that arrive in pieces. Large pieces are hashed outside the GIL.

    Raises:
        InvalidInput: (`unknown_digest_algorithm`) the algorithm is none of ALGORITHMS.
    """

    def __init__(self, algorithm: str = ALGORITHM) -> None:
        if algorithm not in ALGORITHMS:
            raise InvalidInput(
                "unknown_digest_algorithm",
                f"There is no digest algorithm {algorithm!r}",
                fix=f"Choose one of: {', '.join(ALGORITHMS)}.",
            )
        self._algorithm = algorithm
        self._hash: _Hash = blake3() if algorithm == "blake3" else hashlib.sha256()

    def update(self, data: Buffer) -> None:
        self._hash.update(data)

    def digest(self) -> str:
        """Of what came so far; more may follow."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"


def digest(data: Buffer, algorithm: str = ALGORITHM) -> str:
    """The digest of `data`, as `blake3:<64 hex digits>` or `sha256:<64 hex digits>`."""
    hasher = Hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


def algorithm_of(object_id: str) -> str:
    """The algorithm that a digest was made with, so that bytes can be verified against it.

    Raises:
        InvalidInput: (`bad_digest`) this is not a digest.
    """
    match = _DIGEST.fullmatch(object_id)
    if match is None:
        raise InvalidInput(
            "bad_digest",
            f"{object_id[:80]!r} is not a digest",
            fix=f"A digest is {' or '.join(ALGORITHMS)}, a colon, and 64 lower-case hex digits.",
        )
    return match[1]
