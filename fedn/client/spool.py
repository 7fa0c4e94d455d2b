"""Results that wait for their acknowledgement, on disk: they survive a broken stream and a killed client.

One file a result, a slot (`fedn.client.slots`): the tensors' bytes at its beginning; the metadata as JSON, and the
footer, at its end. A result that is acknowledged leaves its file to the next one. Nothing is synced: a kill loses
nothing, a power cut may. So what an earlier process left is verified; what is damaged is simply done again.
"""

import itertools
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import to_json

from fedn.client.objects import disk_error
from fedn.client.slots import FOOTER_BYTES, Slot, SlotFolder, read_footer
from fedn.models.digest import algorithm_of, digest
from fedn.protocol.errors import InvalidInput
from fedn.protocol.tasks import RoundName, UpdateMetadata

_LOG = logging.getLogger(__name__)
_FOOTER_KIND = b"fednspl2"
_USUAL_METADATA_BYTES = 4096
_MAPPED_RESULTS = 4
"""The files of older results are opened again when they are asked for."""


@dataclass(frozen=True)
class SpooledResult:
    """A result that waits."""

    metadata: UpdateMetadata
    object_id: str
    """Digest of the tensors' bytes; empty where the task made none."""
    size_bytes: int
    slot: Slot = field(compare=False)
    made_at: float
    """Unix time in seconds."""

    def for_round(self, round_name: RoundName) -> "SpooledResult":
        """The same result as the answer to another attempt at its task."""
        return replace(self, metadata=self.metadata.model_copy(update={"round": round_name}))

    def open(self) -> memoryview:
        """The tensors' bytes, mapped; to be released. OSError where the file has gone."""
        return self.slot.view(self.size_bytes)


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
        self._unverified: set[str] = set()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._slots = SlotFolder(folder)
        self._find_files()

    def task_ids(self) -> list[str]:
        return list(self._results)

    def get(self, task_id: str) -> SpooledResult | None:
        """The result of a task, if it is here and undamaged."""
        if task_id in self._unverified and not self._verify(task_id):
            return None
        return self._results.get(task_id)

    def work(self, size_bytes: int = 0) -> Slot:
        """A file for the tensors of a task, probably so many bytes; `put` takes it over, or `discard` takes it back.

        Raises:
            LimitExceeded: `disk_full` or `write_failed`.
        """
        try:
            return self._slots.take(size_bytes + _USUAL_METADATA_BYTES + FOOTER_BYTES)
        except OSError as error:
            raise disk_error(error, f"a result of {size_bytes} bytes", self._folder) from error

    def put(
        self, metadata: UpdateMetadata, object_id: str, tensors: bytes | bytearray | Slot | None, size_bytes: int
    ) -> SpooledResult:
        """Keeps a result.

        Args:
            tensors: the bytes; or the slot (of `work`) that begins with them, which is taken over.
            size_bytes: of the tensors.

        Raises:
            LimitExceeded: `disk_full` or `write_failed`; nothing is left behind.
        """
        made_at = self._clock()
        tail = to_json({"metadata": metadata, "object_id": object_id, "made_at": made_at})
        slot = tensors if isinstance(tensors, Slot) else self.work(size_bytes + len(tail))
        try:
            slot.reserve(size_bytes + len(tail) + FOOTER_BYTES)
            if isinstance(tensors, bytes | bytearray):
                slot.mapping[:size_bytes] = tensors
            end = slot.size_bytes - FOOTER_BYTES
            slot.mapping[end - len(tail) : end] = tail
            slot.write_footer(_FOOTER_KIND, size_bytes, len(tail))
        except OSError as error:
            slot.unlink()
            raise disk_error(error, f"the result of task {metadata.task_id}", self._folder) from error
        result = SpooledResult(metadata, object_id, size_bytes, slot, made_at)
        self.remove(metadata.task_id)
        self._results[metadata.task_id] = result
        self._make_room()
        return result

    def remove(self, task_id: str) -> None:
        """Forgets a result; of an unknown task: nothing happens."""
        self._unverified.discard(task_id)
        result = self._results.pop(task_id, None)
        if result is not None:
            self._slots.give_back(result.slot)

    def discard(self, slot: Slot) -> None:
        """What a task may have written is not needed."""
        slot.refresh()
        self._slots.give_back(slot)

    def close(self) -> None:
        self._slots.close()
        for result in self._results.values():
            result.slot.release()

    def _make_room(self) -> None:
        now = self._clock()
        total = sum(result.size_bytes for result in self._results.values())
        for task_id, result in list(self._results.items())[:-1]:
            if total <= self._max_bytes and now - result.made_at <= self._max_age_s:
                break
            _LOG.warning("the result of task %s was never acknowledged: thrown away", task_id)
            total -= result.size_bytes
            # Not to be used again: its upload may be under way.
            self._results.pop(task_id).slot.unlink()
            self._unverified.discard(task_id)
        for result in itertools.islice(reversed(self._results.values()), _MAPPED_RESULTS, _MAPPED_RESULTS + 1):
            result.slot.release()

    def _find_files(self) -> None:
        found: list[SpooledResult] = []
        for path in list(self._folder.iterdir()):
            result = _read(path)
            if result is None or self._clock() - result.made_at > self._max_age_s:
                path.unlink()
            else:
                found.append(result)
        for result in sorted(found, key=lambda result: result.made_at):
            self.remove(result.metadata.task_id)  # killed between the footers of a result and of its successor
            self._results[result.metadata.task_id] = result
            self._unverified.add(result.metadata.task_id)

    def _verify(self, task_id: str) -> bool:
        self._unverified.discard(task_id)
        result = self._results[task_id]
        if not result.object_id:
            return True
        with result.open() as view:
            whole = digest(view, algorithm_of(result.object_id)) == result.object_id
        if not whole:
            _LOG.warning(
                "the result of task %s on disk is damaged: the task is done again when it is asked for", task_id
            )
            self.remove(task_id)
        return whole


def _read(path: Path) -> SpooledResult | None:
    """What a file holds; None where it is damaged."""
    try:
        footer = read_footer(path, _FOOTER_KIND)
        if footer is None or footer.first + footer.second > footer.end:
            return None
        size_bytes, tail_bytes, _, end = footer
        with open(path, "rb") as file:
            file.seek(end - tail_bytes)
            tail = json.loads(file.read(tail_bytes))
        metadata = UpdateMetadata.model_validate(tail["metadata"])
        if tail["object_id"]:
            algorithm_of(tail["object_id"])
        return SpooledResult(metadata, tail["object_id"], size_bytes, Slot(path), float(tail["made_at"]))
    except (OSError, ValueError, KeyError, TypeError, ValidationError, InvalidInput):
        return None
