"""Receives uploads into files, within limits: what arrives is on disk, never whole in memory, until it is checked."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from fedn.protocol.errors import FednError, LimitExceeded

PIECE_BYTES = 1 << 20


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class Spool:
    """A folder for uploads that are being received. What an earlier process left there is removed at the start."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder

    @contextlib.contextmanager
    def received(self, source: Readable, *, max_bytes: int, what: str) -> Iterator[Path]:
        """A file with everything that `source` gives; it is removed at the end.

        Args:
            what: what is received, for messages: model, package.

        Raises:
            LimitExceeded: (`upload_too_large`) more than `max_bytes`.
            FednError: (`disk_full`) there is no room.
        """
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=f"{what}-") as file:
            self._copy(source, file, max_bytes, what)
            yield Path(file.name)

    def _copy(self, source: Readable, file: "tempfile._TemporaryFileWrapper[bytes]", max_bytes: int, what: str) -> None:
        size = 0
        while piece := source.read(PIECE_BYTES):
            size += len(piece)
            if size > max_bytes:
                raise LimitExceeded(
                    "upload_too_large",
                    f"the {what} has more than the {max_bytes} bytes that are allowed",
                    fix=f"Send a smaller {what}, or raise max_{what}_bytes in the reducer's settings.",
                )
            try:
                file.write(piece)
            except OSError as error:
                raise _no_room(error, self._folder) from error
        try:
            file.flush()
        except OSError as error:
            raise _no_room(error, self._folder) from error


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of an open file from its position on, in pieces of 1 MiB."""
    while piece := file.read(PIECE_BYTES):
        yield piece


def _no_room(error: OSError, folder: Path) -> FednError:
    return FednError(
        "disk_full",
        f"an upload cannot be kept: {error.strerror}",
        fix="Make room on the disk of the reducer's data directory, then send it again.",
        where={"folder": folder},
    )
