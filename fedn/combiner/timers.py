"""Deadlines on the event loop that are cheap to move."""

import asyncio
from collections.abc import Callable


class ProgressWatch:
    """Calls `on_stall` once when `timeout_s` seconds pass after the last `touch`, unless `rest` was called since.

    A touch is one assignment: the timer behind it is moved only when it fires too early. Belongs to one loop.
    """

    __slots__ = ("_due", "_handle", "_loop", "_on_stall", "_timeout_s")

    def __init__(self, timeout_s: float, on_stall: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._on_stall = on_stall
        self._due: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        """Something moved: the time starts anew."""
        self._due = self._loop.time() + self._timeout_s
        if self._handle is None:
            self._handle = self._loop.call_at(self._due, self._fire)

    def rest(self) -> None:
        """Nothing is expected until the next touch."""
        self._due = None

    def cancel(self) -> None:
        """For good: leaves no timer behind."""
        self._due = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._handle = self._loop.call_at(self._due, self._fire)
            return
        self._due = None
        self._on_stall()
