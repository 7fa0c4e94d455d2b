"""What a client's updates left out, for its next one: error feedback that survives rounds, restarts and repetitions.

Two files of float32 values hold what the last update that counted left out (`kept`), and what the latest one did. Which
of the two it goes on from is decided when the next update is made: the same task again goes on from `kept`, so nothing
is applied twice; another task goes on from the latest where the combiner acknowledged that, from `kept` where it was
refused, and from nothing where it is not known. All is dropped with another session, another chain, other tensors, or a
round that is not later than the one that `kept` is of: the line of models is another one then.

Takes 8 bytes on disk for each value that the chain codes, mapped while an update is made. The folder belongs to one
client; the process that makes updates writes everything but `outcome.json`, which is the agent's.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedn.models.codecs.chain import Encoding
from fedn.models.codecs.encode import Feedback
from fedn.protocol.errors import TaskFailed

_ITEM_BYTES = 4
_SLOTS = ("a.f32", "b.f32")


@dataclass(frozen=True)
class _Latest:
    slot: str
    task_id: str
    round: int


@dataclass(frozen=True)
class _Kept:
    slot: str
    round: int


class FeedbackFolder:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note_outcome(self, task_id: str, *, counted: bool) -> None:
        """The combiner acknowledged, or refused, the update of a task. Cheap where no session has error feedback."""
        if self._folder.is_dir():
            self._write("outcome.json", {"task_id": task_id, "counted": counted})

    @contextmanager
    def update(self, encoding: Encoding, *, session: str, round_index: int, task_id: str) -> Iterator[Feedback]:
        """What to make a task's update with; what it leaves out is taken over where the block ends without an error.

        Raises:
            TaskFailed: (`feedback_failed`) the files cannot be written.
        """
        line = {"session": session, "encoding": _fingerprint(encoding)}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = self._go_on_from(line, encoding.feedback_size, round_index, task_id)
            slot = next(name for name in _SLOTS if kept is None or name != kept.slot)
            self._write_state(line, kept, None)
            with (
                _mapped(self._folder / slot, encoding.feedback_size, writable=True) as after,
                _mapped(self._folder / kept.slot if kept else None, encoding.feedback_size) as before,
            ):
                yield Feedback(before, after)
                del after, before
            self._write_state(line, kept, _Latest(slot, task_id, round_index))
        except OSError as error:
            raise TaskFailed(
                "feedback_failed",
                f"what updates leave out cannot be kept: {error.strerror}",
                fix="Make room on the disk of the client's data_dir; error feedback needs 8 bytes a parameter.",
                where={"folder": self._folder},
            ) from error

    def _go_on_from(self, line: dict[str, str], size: int, round_index: int, task_id: str) -> _Kept | None:
        state = self._read("state.json")
        if {name: state.get(name) for name in line} != line:
            return None
        kept = _Kept(**state["kept"]) if state["kept"] else None
        latest = _Latest(**state["latest"]) if state["latest"] else None
        if latest is not None and latest.task_id != task_id:
            outcome = self._read("outcome.json")
            if outcome.get("task_id") != latest.task_id:
                kept = None
            elif outcome["counted"]:
                kept = _Kept(latest.slot, latest.round)
        if kept is None or kept.round >= round_index:
            return None
        path = self._folder / kept.slot
        return kept if path.is_file() and path.stat().st_size == size * _ITEM_BYTES else None

    def _write_state(self, line: dict[str, str], kept: _Kept | None, latest: _Latest | None) -> None:
        self._write("state.json", {**line, "kept": kept and vars(kept), "latest": latest and vars(latest)})

    def _read(self, name: str) -> dict[str, Any]:
        """A file of ours; empty where it is not there, or was cut off by a power cut."""
        try:
            content = json.loads((self._folder / name).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, name: str, content: dict[str, Any]) -> None:
        working = self._folder / f"{name}.tmp"
        working.write_text(json.dumps(content))
        os.replace(working, self._folder / name)


@contextmanager
def _mapped(
    path: Path | None, size: int, *, writable: bool = False
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]] | Any]:
    """The (size,) float32 values of a file, made or cut to size where it is to be written; None without a path."""
    if path is None:
        yield None
        return
    if size == 0:
        yield np.empty(0, np.float32)
        return
    with open(path, "r+b" if path.exists() else "w+b") as file:
        if writable:
            os.posix_fallocate(file.fileno(), 0, size * _ITEM_BYTES)
            os.ftruncate(file.fileno(), size * _ITEM_BYTES)
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        mapped = mmap.mmap(file.fileno(), size * _ITEM_BYTES, access=access)
    # Unmapped with the last array that looks into it.
    yield np.frombuffer(mapped, np.float32)


def _fingerprint(encoding: Encoding) -> str:
    """Of the chain and the tensors: what the values are of, and in which order."""
    tensors = [[one.name, str(one.dtype), list(one.shape)] for one in encoding.base.tensors]
    return hashlib.sha256(json.dumps([encoding.chain.text, tensors]).encode()).hexdigest()
