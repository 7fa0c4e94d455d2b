"""What this process has used of its machine: what a step took is the difference over it."""

import resource
import sys

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes that `ru_maxrss` counts in."""


def processor_ms() -> float:
    """Processor time of this process and of its children that have ended, in milliseconds, over all threads."""
    return _used_ms(resource.RUSAGE_SELF) + children_ms()


def children_ms() -> float:
    """Processor time of the children that have ended alone, in milliseconds."""
    return _used_ms(resource.RUSAGE_CHILDREN)


def peak_memory_bytes() -> int:
    """The most memory that this process has held since it began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _used_ms(who: int) -> float:
    used = resource.getrusage(who)
    return (used.ru_utime + used.ru_stime) * 1e3
