"""How busy the programs of tiers 1 and 2 are: processor and memory over the last half hour.

Combiners say it with their heartbeats; the reducer measures itself when one of them comes. Nothing runs for it alone.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psutil

_KEPT = 400
"""Samples of one program."""
_APART_S = 4.5
"""Seconds between two samples at the least."""
_MAX_PROGRAMS = 200

REDUCER = "reducer"


@dataclass(frozen=True)
class Sample:
    time: float
    """Unix time in seconds."""
    cpu_percent: float
    """Of one core, since the sample before."""
    rss_bytes: int


@dataclass
class _Program:
    instance: str
    cpu_s: float
    at: float
    samples: "deque[Sample]"


class Vitals:
    """Thread-safe.

    Args:
        clock: Unix time in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._own = psutil.Process()
        self._programs: dict[str, _Program] = {}
        self.measure()

    def note(self, name: str, instance: str, cpu_s: float, rss_bytes: int) -> None:
        """What a program says of itself.

        Args:
            instance: of its process; a new one begins at 0 again.
            cpu_s: processor time since its start.
        """
        now = self._clock()
        with self._lock:
            known = self._programs.get(name)
            if known is None or known.instance != instance:
                if len(self._programs) >= _MAX_PROGRAMS and name not in self._programs:
                    return
                samples = known.samples if known is not None else deque(maxlen=_KEPT)
                self._programs[name] = _Program(instance, cpu_s, now, samples)
            elif now - known.at >= _APART_S:
                percent = max(0.0, cpu_s - known.cpu_s) / (now - known.at) * 100
                known.samples.append(Sample(now, round(percent, 1), rss_bytes))
                known.cpu_s, known.at = cpu_s, now

    def measure(self) -> None:
        """Takes a sample of this process, if the last one is old enough."""
        times = self._own.cpu_times()
        self.note(REDUCER, "own", times.user + times.system, self._own.memory_info().rss)

    def samples(self) -> dict[str, list[Sample]]:
        """By program, the reducer first."""
        with self._lock:
            names = sorted(self._programs, key=lambda name: (name != REDUCER, name))
            return {name: list(self._programs[name].samples) for name in names}

    def latest(self, name: str) -> Sample | None:
        with self._lock:
            program = self._programs.get(name)
            return program.samples[-1] if program is not None and program.samples else None
