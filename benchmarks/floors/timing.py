"""How single operations are timed: the best of several runs is what the machine can do."""

import time
from collections.abc import Callable

from benchmarks.results import Row


def best_s(call: Callable[[], object], repeats: int = 7) -> float:
    """Seconds of the fastest of `repeats` calls, after one that warms up."""
    call()
    return min(timed(call) for _ in range(repeats))


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def figure(test: str, what: str, value: float, unit: str) -> Row:
    """A row of `floor`: one figure of this machine."""
    return {"bench": "floor", "test": test, "what": what, "value": value, "unit": unit}
