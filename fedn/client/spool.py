"""Results that wait for their acknowledgement, on disk: they survive a broken stream and a killed client.

One file a result: the tensors' bytes, then the metadata as JSON, then a footer. It appears under its name when it is
whole. Nothing is synced: a kill loses nothing, a power cut may, and then the task is simply done again.
"""

import hashlib
import json
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from fedn.client.objects import disk_error
from fedn.protocol.tasks import RoundName, UpdateMetadata

_LOG = logging.getLogger(__name__)
_FOOTER = struct.Struct("<Q8s")
_MAGIC = b"fednspl1"


@dataclass(frozen=True)
class SpooledResult:
    """A result that waits."""

    metadata: UpdateMetadata
    object_id: str
    """Digest of the tensors' bytes; empty where the task made none."""
    size_bytes: int
    path: Path
    made_at: float
    """Unix time in seconds."""

    def for_round(self, round_name: RoundName) -> "SpooledResult":
        """The same result as the answer to another attempt at its task."""
        return replace(self, metadata=self.metadata.model_copy(update={"round": round_name}))

    @contextmanager
    def open(self) -> Iterator[memoryview]:
        """The tensors' bytes, mapped. OSError where the file has gone."""
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)[: self.size_bytes]
            try:
                yield view
            finally:
                view.release()


class Spool:
    """Results by task id.

    Args:
        folder: made if missing, owned by one process.
        max_age_s: a result older than that is thrown away.
        max_bytes: the oldest results go when all together are larger; the newest stays in any case.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_age_s: float = 86400.0,
        max_bytes: int = 8 << 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._results: dict[str, SpooledResult] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._find_files()

    def task_ids(self) -> list[str]:
        return list(self._results)

    def get(self, task_id: str) -> SpooledResult | None:
        return self._results.get(task_id)

    def work_path(self, task_id: str) -> Path:
        """Where the tensors of a task may be written before `put` is called with that path."""
        return self._path(task_id).with_suffix(".tmp")

    def put(self, metadata: UpdateMetadata, object_id: str, tensors: bytes | bytearray | Path | None) -> SpooledResult:
        """Keeps a result; a file given as `tensors` (of `work_path`) is taken over.

        Raises:
            LimitExceeded: `disk_full` or `write_failed`; nothing is left behind.
        """
        path = self._path(metadata.task_id)
        working = self.work_path(metadata.task_id)
        made_at = self._clock()
        # Its values were checked when it was made: `vars` are the fields, without a second walk over them.
        tail = json.dumps({"metadata": metadata, "object_id": object_id, "made_at": made_at}, default=vars).encode()
        tail += _FOOTER.pack(len(tail), _MAGIC)
        try:
            with open(working, "ab" if isinstance(tensors, Path) else "wb") as file:
                size_bytes = file.tell()
                if isinstance(tensors, bytes | bytearray):
                    size_bytes = len(tensors)
                    file.write(tensors)
                file.write(tail)
            os.replace(working, path)
        except OSError as error:
            working.unlink(missing_ok=True)
            raise disk_error(error, f"the result of task {metadata.task_id}", self._folder) from error
        result = SpooledResult(metadata, object_id, size_bytes, path, made_at)
        self._results.pop(metadata.task_id, None)
        self._results[metadata.task_id] = result
        self._make_room()
        return result

    def remove(self, task_id: str) -> None:
        """Forgets a result, or what was written for one; of an unknown task: nothing happens."""
        result = self._results.pop(task_id, None)
        if result is not None:
            result.path.unlink(missing_ok=True)

    def discard_work(self, task_id: str) -> None:
        """The task failed: what it may have written is thrown away."""
        self.work_path(task_id).unlink(missing_ok=True)

    def _make_room(self) -> None:
        now = self._clock()
        total = sum(result.size_bytes for result in self._results.values())
        for task_id, result in list(self._results.items())[:-1]:
            if total <= self._max_bytes and now - result.made_at <= self._max_age_s:
                break
            _LOG.warning("the result of task %s was never acknowledged: thrown away", task_id)
            total -= result.size_bytes
            self.remove(task_id)

    def _path(self, task_id: str) -> Path:
        # Task ids come from outside: their hash is a harmless file name.
        return self._folder / hashlib.sha256(task_id.encode()).hexdigest()

    def _find_files(self) -> None:
        found: list[SpooledResult] = []
        for path in self._folder.iterdir():
            result = _read(path) if path.suffix != ".tmp" else None
            if result is None or self._clock() - result.made_at > self._max_age_s:
                path.unlink()
            else:
                found.append(result)
        for result in sorted(found, key=lambda result: result.made_at):
            self._results[result.metadata.task_id] = result


def _read(path: Path) -> SpooledResult | None:
    """What a file holds; None where it is damaged."""
    try:
        with open(path, "rb") as file:
            end = file.seek(-_FOOTER.size, os.SEEK_END)
            tail_bytes, magic = _FOOTER.unpack(file.read())
            if magic != _MAGIC or tail_bytes > end:
                return None
            size_bytes = file.seek(end - tail_bytes)
            tail = json.loads(file.read(tail_bytes))
        metadata = UpdateMetadata.model_validate(tail["metadata"])
        return SpooledResult(metadata, tail["object_id"], size_bytes, path, tail["made_at"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
