"""TensorBoard: scalars in an event file of a folder that bears the session's id. Needs the package `tensorboard`."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from fedn.protocol.errors import FednError
from fedn.protocol.rest import SessionView

_SUFFIX = ".fedn"
"""Of our event files; others in the folder are left alone."""


class TensorBoardRun:
    """One event file, written from the first round on: an event file cannot be gone on with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for earlier in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
                earlier.unlink()
            self._writer = EventFileWriter(str(folder), filename_suffix=_SUFFIX)
        except OSError as error:
            raise FednError(
                "cannot_write_file",
                f"the log cannot be written: {error.strerror or error}",
                fix="Choose another folder, or make room.",
                where={"file": folder},
            ) from error

    @property
    def rounds_logged(self) -> int:
        return 0

    def log(self, step: int, unix_s: float, scalars: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in sorted(scalars.items())]
        self._writer.add_event(Event(wall_time=unix_s, step=step, summary=Summary(value=values)))

    def round_done(self, index: int) -> None:
        self._writer.flush()

    def end(self, state: str) -> None:
        """TensorBoard has no place for it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


class TensorBoardLogger:
    def open(self, target: str, session: SessionView) -> TensorBoardRun:
        """`target`: the folder that TensorBoard is started with."""
        return TensorBoardRun(Path(target) / session.id)
