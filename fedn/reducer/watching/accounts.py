"""What sessions took, for a page that is drawn again and again: a round that is committed is read and added once."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from fedn.protocol.rest import RoundView
from fedn.protocol.rest.accounting import Account, Accounting
from fedn.protocol.rounds import RoundKind, RoundState
from fedn.reducer.sessions import Sessions

_PART = 100
_MAX_SESSIONS = 8


@dataclass
class _Kept:
    account: Account
    count: int = 0
    """Rounds from the first on that are in it: all committed, so that nothing of them changes."""


class Accounts:
    """Thread-safe."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def of(self, session: str) -> Accounting:
        """What the session took up to now, the running round included.

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
                        kept.account.add(view)
                        kept.count += 1
                    else:
                        others.append(view)
                offset += len(part)
            everything = Account(session, kept.account)
            for view in others:
                everything.add(view)
            return everything.closed()

    def _of(self, session: str) -> _Kept:
        kept = self._kept.setdefault(session, _Kept(Account(session)))
        self._kept.move_to_end(session)
        if len(self._kept) > _MAX_SESSIONS:
            self._kept.popitem(last=False)
        return kept
