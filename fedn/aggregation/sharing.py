"""Large sums are worked out by several threads, each with a range of the elements of its own.

One thread does not reach the memory's bandwidth where values change their dtype on the way. What an element becomes
does not depend on who works it out: the result is equal to the bit for any number of threads.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

SHARE_ELEMENTS = 1 << 20
"""A range of fewer elements is not worth a thread."""
_MOST_THREADS = 4
"""More of them gain nothing: the memory is the limit."""


def _threads() -> int:
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


class _Helpers:
    """Threads beside the calling one, made when they are first needed; they end with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max(1, _threads() - 1), thread_name_prefix="fedn-sum")
            return self._pool

    def forget(self) -> None:
        """In a forked child, whose threads are gone."""
        self._lock = threading.Lock()
        self._pool = None


_helpers = _Helpers()
os.register_at_fork(after_in_child=_helpers.forget)


def share(size: int, work: Callable[[int, int], None]) -> None:
    """Calls work(start, stop) for ranges that are [0, size) together, at the same time; returns when all are done.

    What `work` raises is raised here, when every range has ended.
    """
    count = min(_threads(), size // SHARE_ELEMENTS)
    if count < 2:
        work(0, size)
        return
    bounds = [size * number // count for number in range(count + 1)]
    pool = _helpers.pool()
    others = [pool.submit(work, start, stop) for start, stop in pairwise(bounds[1:])]
    try:
        work(bounds[0], bounds[1])
    finally:
        errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error
