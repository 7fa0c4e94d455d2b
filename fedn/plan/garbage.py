"""When Python looks for garbage, in programs that hold very many objects for long.

Now and then Python's collector walks through every object there is: with ten thousand clients attached, that stopped a
combiner for more than a second each time. So what stays is set apart ("frozen"), and the rest is looked through often
and quickly. What was set apart and goes later is freed as ever, unless it hangs together in circles: that is found by
a long look, when enough has gone to be worth it.
"""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

_log = logging.getLogger(__name__)

_THRESHOLDS = (5_000, 10, 1_000_000_000)
"""Young objects are looked through as they come, a few milliseconds at a time; all of them only when told to."""
_EVERY_S = 1.0
_FRESH = 200
"""So many newcomers are worth setting apart."""
_FRESH_WHILE_BUSY = 2_000
"""And so many while something under way, which will be garbage, would be set apart with them."""
_GONE = 100
"""So many that went are worth a look."""
_GONE_FOR_LONG_LOOK = 500
_LONG_LOOK_AT_THE_LATEST_S = 600.0
_REST = 50
"""After a look, so many times as long as it took: two hundredths of the processor's time are enough for looking."""
_WORTH_TELLING_S = 0.25


@dataclass(frozen=True)
class Turnover:
    """What a program holds, in counts that only grow, but for `busy`."""

    came: int = 0
    """Long-lived things (attached clients)."""
    went: int = 0
    """Of those."""
    busy: int = 0
    """Large things under way now (rounds), which will leave garbage."""
    done: int = 0
    """Of those that ended; what counts is that it changes."""


class Collector(Protocol):
    """The part of the module `gc` that is used."""

    def collect(self) -> int: ...

    def freeze(self) -> None: ...

    def unfreeze(self) -> None: ...

    def get_threshold(self) -> tuple[int, int, int]: ...

    def set_threshold(self, threshold0: int, threshold1: int, threshold2: int, /) -> None: ...


class GarbageSchedule:
    """See the module. Of the whole process: one at a time.

    Args:
        turnover: asked at each `tick`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        turnover: Callable[[], Turnover],
        *,
        collector: Collector = gc,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turnover = turnover
        self._collector = collector
        self._clock = clock
        self._before = collector.get_threshold()
        self._frozen = self._looked = self._looked_long = Turnover()
        self._looked_long_at = clock()
        self._rests_until = 0.0

    def begin(self) -> None:
        """Sets apart what is there: modules, settings."""
        self._collector.set_threshold(*_THRESHOLDS)
        self._collector.collect()
        self._collector.freeze()

    def end(self) -> None:
        """As Python does it by itself."""
        self._collector.unfreeze()
        self._collector.set_threshold(*self._before)

    def tick(self) -> None:
        """Looks for garbage where that is worth it; to be called about once a second."""
        if self._clock() < self._rests_until:
            return
        now = self._turnover()
        if self._long_look_is_due(now):
            self._look(now, long=True)
        elif now.came - self._frozen.came >= (_FRESH_WHILE_BUSY if now.busy else _FRESH):
            self._look(now, set_apart=True)
        elif now.done != self._looked.done or now.went - self._looked.went >= _GONE:
            self._look(now)

    def _long_look_is_due(self, now: Turnover) -> bool:
        gone = now.went - self._looked_long.went
        if gone < max(_GONE_FOR_LONG_LOOK, (now.came - now.went) // 4):
            return False
        return not now.busy or self._clock() - self._looked_long_at >= _LONG_LOOK_AT_THE_LATEST_S

    def _look(self, now: Turnover, *, long: bool = False, set_apart: bool = False) -> None:
        begun = self._clock()
        if long:
            self._collector.unfreeze()
            self._looked_long, self._looked_long_at = now, begun
        found = self._collector.collect()
        self._looked = now
        if long or set_apart:
            self._collector.freeze()
            self._frozen = now
        ended = self._clock()
        took_s = ended - begun
        self._rests_until = ended + _REST * took_s
        if took_s >= _WORTH_TELLING_S:
            _log.debug("a look for garbage took %.2f s and found %d objects", took_s, found)


@asynccontextmanager
async def garbage_schedule(turnover: Callable[[], Turnover]) -> AsyncIterator[None]:
    """A schedule that ticks on the loop as long as the block runs."""
    schedule = GarbageSchedule(turnover)
    schedule.begin()
    ticking = asyncio.create_task(_tick(schedule))
    try:
        yield
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        schedule.end()


async def _tick(schedule: GarbageSchedule) -> None:
    while True:
        await asyncio.sleep(_EVERY_S)  # a timer: nothing tells when garbage is there
        schedule.tick()
