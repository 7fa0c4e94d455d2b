"""Updates in a folder of the combiner's own:

    <number>.safetensors    the bytes
    <number>.json           what is known of them; written last, by a rename: where it is, the bytes are whole

They outlive the process, not a failure of the machine: nothing is synced, since a loss costs little and is noticed.
"""

import contextlib
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from fedn.models.pieces import Pieces
from fedn.stores.content import FULL_ERRNOS, store_away, store_full
from fedn.stores.updates.base import KeptUpdate
from fedn.stores.updates.store import lost

_WINDOW_BYTES = 16 << 20
_OWNER_ONLY = 0o600


class FileShelf:
    """A `Shelf` in a folder, made where it is missing; only this user may read it.

    Raises:
        StoreUnavailable: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self) -> list[KeptUpdate]:
        found = {}
        with self._errors():
            paths = list(self._folder.iterdir())
            for path in paths:
                if path.suffix == ".json" and (update := self._read_facts(path)) is not None:
                    found[path.stem] = update
            for path in paths:
                if path.stem not in found or path.suffix not in {".json", ".safetensors"}:
                    path.unlink(missing_ok=True)
        return list(found.values())

    def write(self, update: KeptUpdate, data: Pieces) -> None:
        bytes_path, facts_path = self._bytes_path(update), self._facts_path(update)
        incoming = facts_path.with_suffix(".incoming")
        with self._errors():
            try:
                self._write_file(bytes_path, data)
                self._write_file(incoming, Pieces.of(update.model_dump_json().encode()))
                incoming.rename(facts_path)
            except OSError:
                for path in (bytes_path, incoming):
                    path.unlink(missing_ok=True)
                raise

    def read(self, update: KeptUpdate) -> Pieces:
        with self._errors():
            try:
                with self._bytes_path(update).open("rb") as file:
                    if not os.fstat(file.fileno()).st_size:
                        return Pieces(())
                    view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
            except FileNotFoundError:
                raise lost(update) from None
        return Pieces([view[at : at + _WINDOW_BYTES] for at in range(0, len(view), _WINDOW_BYTES)])

    def remove(self, updates: Sequence[KeptUpdate]) -> None:
        with self._errors():
            for update in updates:
                self._facts_path(update).unlink(missing_ok=True)
                self._bytes_path(update).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is kept open."""

    def _bytes_path(self, update: KeptUpdate) -> Path:
        return self._folder / f"{update.number}.safetensors"

    def _facts_path(self, update: KeptUpdate) -> Path:
        return self._folder / f"{update.number}.json"

    def _read_facts(self, path: Path) -> KeptUpdate | None:
        """None where it is not a whole update's."""
        try:
            update = KeptUpdate.model_validate_json(path.read_bytes())
            size_bytes = self._bytes_path(update).stat().st_size
        except (ValidationError, FileNotFoundError):
            return None
        return update if path == self._facts_path(update) and size_bytes == update.size_bytes else None

    @staticmethod
    def _write_file(path: Path, data: Pieces) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
        with open(descriptor, "wb", buffering=0) as file:
            for view in data.views():
                done = 0
                while done < view.nbytes:
                    done += file.write(view[done:])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            made = store_full if error.errno in FULL_ERRNOS else store_away
            raise made(str(self._folder), error.strerror or error) from error
