"""Tasks of the event loop that belong to somebody: kept, awaited, and never failing unheard."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Jobs:
    """Runs coroutines beside their owner.

    Args:
        on_failure: told on the loop of an exception that ended one.
    """

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        job = asyncio.create_task(work)
        self._running.add(job)
        job.add_done_callback(self._ended)
        return job

    async def wait(self) -> None:
        """Until none runs."""
        while self._running:
            await asyncio.wait(tuple(self._running))

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._running.discard(job)
        error = None if job.cancelled() else job.exception()
        if error is not None:
            self._on_failure(error)
