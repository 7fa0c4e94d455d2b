"""Saves an answer's body to a file: atomically, and checked by digest where one is known."""

import os
import tempfile
from pathlib import Path

from urllib3 import BaseHTTPResponse

from fedn.api.transport import PIECE_BYTES
from fedn.models.digest import Hasher
from fedn.protocol.errors import FednError, IntegrityError
from fedn.protocol.names import check_digest


def save_stream(answer: BaseHTTPResponse, target: Path, digest: str | None) -> int:
    """Writes the body to `target` and returns its size in bytes; where it fails, `target` is as it was before.

    Raises:
        IntegrityError: (`digest_mismatch`) the body does not have the digest.
        FednError: (`cannot_write_file`) the file cannot be written.
    """
    hasher = None if digest is None else Hasher(check_digest(digest)[0])
    size = 0
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            partial = Path(file.name)
            try:
                while piece := answer.read(PIECE_BYTES):
                    file.write(piece)
                    size += len(piece)
                    if hasher is not None:
                        hasher.update(piece)
                if hasher is not None and hasher.digest() != digest:
                    raise IntegrityError(
                        "digest_mismatch",
                        "what was downloaded is not what it is called",
                        fix="Download again; if it stays so, the model store is damaged.",
                        where={"expected": digest, "got": hasher.digest()},
                    )
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise FednError(
            "cannot_write_file",
            f"the file cannot be written: {error.strerror or error}",
            fix="Choose another place with --out, or make room.",
            where={"file": target},
        ) from error
    return size
