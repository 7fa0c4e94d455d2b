"""How long to wait before the next try."""

import random


class Backoff:
    """Waits that double, each shortened by up to a half at random, so that many clients do not come back at once.

    Args:
        first_s, most_s: seconds > 0; of the first wait and of the longest.
    """

    def __init__(self, first_s: float = 0.1, most_s: float = 2.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._most_s)
        return jittered(wait_s)

    def reset(self) -> None:
        """It worked: the next wait is the first again."""
        self._next_s = self._first_s


def jittered(wait_s: float) -> float:
    """Between a half of it and all of it."""
    return wait_s * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
