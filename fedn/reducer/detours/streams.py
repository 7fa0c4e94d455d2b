"""All detours of a reducer: their loop, in a thread of its own, their number, and what is told of them."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable

from fedn.protocol.errors import FednError, LimitExceeded, Unavailable
from fedn.reducer.detours.stream import Detour, Meter, carry

log = logging.getLogger(__name__)

OnOpen = Callable[[Detour, str], None]
"""Of the first detour between two combiners, and why there is one."""


class Detours:
    """Thread-safe. `start` and `stop` once each.

    Args:
        max_streams: under way at once; more are refused.
        on_open: called in the loop when a stream is open, and no other one between the same combiners was.
        on_passed: called in the loop with the bytes of each message that was handed on.
    """

    def __init__(self, max_streams: int, on_open: OnOpen, *, on_passed: Callable[[int], None]) -> None:
        self._max_streams = max_streams
        self._on_open = on_open
        self._loop: asyncio.AbstractEventLoop | None = None
        """While it runs."""
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main, name="detours")
        self._ending = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: Counter[tuple[str, str]] = Counter()
        """Streams by combiner and home."""
        self._lock = threading.Lock()
        self._streams = 0
        self._meter = Meter(on_passed)

    @property
    def streams(self) -> int:
        """Under way now, or being opened."""
        return self._streams

    @property
    def held_bytes(self) -> int:
        """Read, and not yet taken by the other side."""
        return self._meter.held_bytes

    def start(self) -> None:
        """Returns when the loop runs."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Ends all; their workers connect again."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def begin(self, detour: Detour, reason: str) -> None:
        """Begins one, and does not wait for it.

        Args:
            reason: why the near combiner does not reach the home.

        Raises:
            LimitExceeded: (`too_many_detours`).
            Unavailable: (`reducer_ending`).
        """
        with self._lock:
            if self._streams >= self._max_streams:
                raise LimitExceeded(
                    "too_many_detours",
                    f"{self._max_streams} workers' streams go through the reducer, and no more may",
                    fix="Let combiners reach each other's addresses, or raise the reducer's max_relayed_workers.",
                    where={"combiner": detour.near.combiner, "home": detour.far.combiner},
                )
            if self._loop is None:
                raise Unavailable("reducer_ending", "the reducer is ending", fix="Try again when it is back.")
            self._streams += 1
            self._loop.call_soon_threadsafe(self._spawn, detour, reason)

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._ending.wait()
        with self._lock:
            self._loop = None
        await asyncio.sleep(0)  # those that were begun just now are tasks then
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, detour: Detour, reason: str) -> None:
        task = asyncio.create_task(self._carry(detour, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, detour: Detour, reason: str) -> None:
        between = detour.near.combiner, detour.far.combiner
        opened = False

        def note_open() -> None:
            nonlocal opened
            opened = True
            self._open[between] += 1
            if self._open[between] == 1:
                self._on_open(detour, reason)

        try:
            await carry(detour, self._meter, note_open)
        except FednError as error:
            log.warning("a worker's stream from %s to %s has ended: %s", *between, error)
        finally:
            with self._lock:
                self._streams -= 1
            if opened:
                self._open[between] -= 1
