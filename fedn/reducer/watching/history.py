"""A session's rounds and validations for pages that are drawn again and again: what is committed is read once."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import RoundState
from fedn.protocol.trail import ValidationRecord
from fedn.reducer.sessions import Sessions
from fedn.reducer.trail import Trail

MAX_ROUNDS = 200
_MAX_ENTRIES = 100_000
"""Of ledgers, and of validations, kept of one session."""
_MAX_SESSIONS = 8


@dataclass
class _Kept:
    count: int = 0
    rounds: dict[int, RoundView] = field(default_factory=dict)
    validations: list[ValidationRecord] = field(default_factory=list)
    offset: int = 0
    """Validations that were read so far."""


class History:
    """Thread-safe."""

    def __init__(self, sessions: Sessions, trail: Trail) -> None:
        self._sessions = sessions
        self._trail = trail
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def rounds(self, session: str) -> list[RoundView]:
        """The latest rounds, 200 at the most, in the order in which they began; the running one as it is now.

        Raises:
            NotFound: (`no_such_session`).
        """
        with self._lock:
            kept = self._of(session)
            count = self._sessions.count_rounds(session)
            # The rounds that make the first model and validate the last one have the highest indexes: they are in
            # every tail, whatever came before them.
            wanted = min(MAX_ROUNDS, count) if not kept.rounds else min(count - kept.count + 3, MAX_ROUNDS, count)
            if count != kept.count or not kept.rounds:
                found = self._sessions.rounds(session, wanted, count - wanted) if wanted else ()
                kept.rounds.update((view.index, view) for view in found)
                kept.count = count
            for index, view in kept.rounds.items():
                if view.state is not RoundState.COMMITTED:  # a failed one may be tried again
                    kept.rounds[index] = self._sessions.round(session, index)
            ordered = sorted(kept.rounds.values(), key=lambda view: (view.started_at, view.index))
            kept.rounds = {view.index: view for view in _latest(ordered)}
            return list(kept.rounds.values())

    def validations(self, session: str) -> list[ValidationRecord]:
        """What clients found of the models, in the order in which they found it; the latest 100,000."""
        with self._lock:
            kept = self._of(session)
            found = self._trail.validations(session=session, offset=kept.offset)
            kept.offset += len(found)
            kept.validations = [*kept.validations, *found][-_MAX_ENTRIES:]
            return kept.validations

    def _of(self, session: str) -> _Kept:
        kept = self._kept.setdefault(session, _Kept())
        self._kept.move_to_end(session)
        if len(self._kept) > _MAX_SESSIONS:
            self._kept.popitem(last=False)
        return kept


def _latest(rounds: Sequence[RoundView]) -> list[RoundView]:
    """As many of the last ones as may be kept; at least one."""
    entries, chosen = 0, 0
    for view in reversed(rounds[-MAX_ROUNDS:]):
        entries += len(view.ledger)
        if chosen and entries > _MAX_ENTRIES:
            break
        chosen += 1
    return list(rounds[len(rounds) - chosen :])
