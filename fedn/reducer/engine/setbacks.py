"""What follows when an attempt at a round came to nothing: a pause that grows; in the end, that of the session."""

import asyncio
import logging
from collections import Counter

from fedn.protocol.errors import Unavailable
from fedn.protocol.rounds import Reason
from fedn.reducer.engine.round_run import RoundRun

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
"""Between attempts at a round, doubling: what just failed often needs a moment."""


class Setbacks:
    """Of one session.

    Args:
        max_attempts: times that one round is tried.
    """

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._failures: Counter[int] = Counter()

    async def after(self, run: RoundRun, reason: Reason) -> None:
        """Notes that an attempt failed. Returns when the next one may begin; Unavailable where there will be none."""
        run.fail(reason)
        log.warning("round %s came to nothing: %s", run.record.name, reason.message)
        index = run.record.name.index
        self._failures[index] += 1
        if self._failures[index] >= self._max_attempts:
            raise Unavailable(
                "round_failed",
                f"a round failed {self._failures[index]} times, at last because {reason.message}",
                fix="See the round's ledger for each client's reason, then resume the session.",
                where={"session": run.record.name.session, "round": index},
            )
        pause_s = _FIRST_PAUSE_S * 2 ** (self._failures[index] - 1)
        await asyncio.sleep(min(_LONGEST_PAUSE_S, pause_s))  # a timer, for no event
