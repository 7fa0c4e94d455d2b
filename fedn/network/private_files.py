"""Files of a data directory that must be whole, and those that only their owner may read: keys and secrets.

Not for models or state: those live in the stores.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from fedn.protocol.errors import InvalidInput

OWNER_ONLY = 0o600
PUBLIC = 0o644


def write_file(path: Path, data: bytes, *, mode: int = OWNER_ONLY) -> None:
    """Writes a file whole and durably, or not at all, replacing what was there."""
    temporary = _write_beside(path, data, mode)
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def create_or_load(path: Path, make: Callable[[], bytes]) -> bytes:
    """Content of a private file, made with `make()` where there is none. Of two processes at once, one makes it.

    Raises:
        InvalidInput: (`private_file_exposed`) others than the owner may read or write it.
    """
    if not path.exists():
        temporary = _write_beside(path, make(), OWNER_ONLY)
        try:
            # A link, unlike a rename, does not replace the file of a process that was faster.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()
        _sync_folder(path.parent)
    return read_private(path)


def create_or_load_secret(path: Path) -> str:
    """A secret of 256 random bits that people may copy (43 characters), kept in a private file."""
    return create_or_load(path, lambda: secrets.token_urlsafe(32).encode()).decode().strip()


def read_private(path: Path) -> bytes:
    """Content of a private file. InvalidInput (`private_file_exposed`) where others may read or write it."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise InvalidInput(
                "private_file_exposed",
                f"a private file may be read or changed by others (mode {mode:04o})",
                fix=f"chmod 600 {path} and, if others had access to this machine, replace what is in it.",
                where={"file": path},
            )
        return file.read()


def make_private_folder(folder: Path) -> None:
    """Makes a folder that only its owner may enter; one that is there is left as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    make_private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
