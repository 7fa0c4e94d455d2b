"""Sums over the rounds of sessions, for pages that are drawn again and again: a committed round is added once."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import RoundKind, RoundState
from fedn.reducer.sessions import Sessions

_PART = 100
_MAX_SESSIONS = 8


class Sum(Protocol):
    """What rounds are added to, each once, in the order of their indexes."""

    def add(self, view: RoundView) -> None: ...

    def copy(self) -> Self:
        """The same, to which others may be added."""


S = TypeVar("S", bound=Sum)


@dataclass
class _Kept(Generic[S]):
    sum: S
    count: int = 0
    """Rounds from the first on that are in it: all committed, so that nothing of them changes."""


class RoundSums(Generic[S]):
    """Thread-safe.

    Args:
        empty: the sum over no rounds of a session.
    """

    def __init__(self, sessions: Sessions, empty: Callable[[str], S]) -> None:
        self._sessions = sessions
        self._empty = empty
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept[S]] = OrderedDict()

    def of(self, session: str) -> S:
        """The sum over all rounds of the session up to now, the running one included.

        Raises:
            NotFound: (`no_such_session`).
        """
        with self._lock:
            kept = self._of(session)
            others: list[RoundView] = []
            offset = kept.count
            while part := self._sessions.rounds(session, _PART, offset):
                for view in part:
                    # In order of their indexes; the rounds that make the first model and validate the last one stand
                    # behind all others, where new ones come in before them.
                    settled = view.kind is RoundKind.TRAIN and view.state is RoundState.COMMITTED
                    if settled and view.index == kept.count:
                        kept.sum.add(view)
                        kept.count += 1
                    else:
                        others.append(view)
                offset += len(part)
            everything = kept.sum.copy()
            for view in others:
                everything.add(view)
            return everything

    def _of(self, session: str) -> _Kept[S]:
        kept = self._kept.setdefault(session, _Kept(self._empty(session)))
        self._kept.move_to_end(session)
        if len(self._kept) > _MAX_SESSIONS:
            self._kept.popitem(last=False)
        return kept
