"""What a logger is, and how it is found by its name."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import TracebackType
from typing import Protocol, Self, cast

from fedn.protocol.errors import InvalidInput
from fedn.protocol.rest import SessionView

GROUP = "fedn.loggers"
EXTRAS = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Our own loggers, and the extra that brings the package that each needs."""


class RunLog(Protocol):
    """One session where the logger keeps it. A context manager, which closes it."""

    @property
    def rounds_logged(self) -> int:
        """Rounds, from the first, that are there already, from an earlier time."""

    def log(self, step: int, unix_s: float, scalars: Mapping[str, float]) -> None:
        """Numbers of one moment, by name. `step`: index of the round, from 0. They may be NaN or infinite."""

    def round_done(self, index: int) -> None:
        """All there is of this round was logged."""

    def end(self, state: str) -> None:
        """The session has ended: finished, failed or stopped."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Logger(Protocol):
    """Makes run logs. An entry point names a class that is made without arguments."""

    def open(self, target: str, session: SessionView) -> RunLog:
        """The log of a session.

        Args:
            target: where: a folder, or the address of a server, as the logger wants it.

        Raises:
            FednError: what keeps it from being written.
        """


def get_logger(name: str) -> Logger:
    """The logger of this name.

    Raises:
        InvalidInput: (`unknown_option`) no such name; (`ambiguous_option`) two packages declare it differently;
            (`broken_option`) the package that it writes for is not installed.
    """
    found = entry_points(group=GROUP, name=name)
    values = sorted({entry.value for entry in found})
    if len(values) != 1:
        known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)}))
        raise InvalidInput(
            "ambiguous_option" if values else "unknown_option",
            f"The logger {name!r} is declared as {' and as '.join(values)}"
            if values
            else f"There is no logger {name!r}",
            fix=f"Known: {known or 'none'}. One package declares a name, by an entry point in {GROUP!r}.",
            where={"option": name},
        )
    try:
        made = next(iter(found)).load()
    except (ImportError, AttributeError) as error:
        extra = EXTRAS.get(name)
        raise InvalidInput(
            "broken_option",
            f"The logger {name!r} cannot be loaded: {error}",
            fix=f"Install what it needs: pip install 'fedn[{extra}]'." if extra else "Install what it needs.",
            where={"option": name},
        ) from error
    return cast(Logger, made())
