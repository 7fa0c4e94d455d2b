"""What a session took: traffic and compute time, in all, by round and by client: sums of what ledgers say.

Bytes are those of models, packages and results on the clients' links, as they went over them: encoded, and what was
sent again counted again. The frames around them (16 bytes a MiB) and control messages are not in it.
"""

from collections.abc import Iterable

from fedn.protocol.rest.sessions import RoundView
from fedn.protocol.rounds import RoundKind, RoundState, Usage, usage_of
from fedn.protocol.tasks import Frozen


class RoundAccount(Frozen):
    """One round, over all its attempts."""

    index: int
    kind: RoundKind
    state: RoundState
    attempts: int
    wall_ms: float
    """From the start of its latest attempt to its end; 0 while it runs."""
    usage: Usage


class ClientAccount(Frozen):
    """One client, over all rounds of the session."""

    client: str
    rounds: int
    """Rounds in which it was asked to do something."""
    usage: Usage


class Accounting(Frozen):
    """GET sessions/<session>/accounting."""

    session: str
    total: Usage
    rounds: tuple[RoundAccount, ...]
    """By index."""
    clients: tuple[ClientAccount, ...]
    """By name."""


class Account:
    """Adds up what rounds' ledgers say, round by round. Not thread-safe.

    Args:
        session: whose rounds they are.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._rounds: list[RoundAccount] = []
        self._clients: dict[str, tuple[int, Usage]] = {}
        self._total = Usage()

    def copy(self) -> "Account":
        """The same, to which others may be added."""
        made = Account(self._session)
        made._rounds, made._clients, made._total = list(self._rounds), dict(self._clients), self._total
        return made

    def add(self, view: RoundView) -> None:
        """One round, over all its attempts; each is to be added once."""
        spent = dict(view.spent)
        for entry in view.ledger:
            if entry.task_id:
                spent[entry.client] = spent.get(entry.client, Usage()) + usage_of(entry)
        usage = total_of(spent.values())
        self._total += usage
        self._rounds.append(
            RoundAccount(
                index=view.index,
                kind=view.kind,
                state=view.state,
                attempts=view.attempt + 1,
                wall_ms=0.0 if view.ended_at is None else (view.ended_at - view.started_at) * 1e3,
                usage=usage,
            )
        )
        for client, more in spent.items():
            count, sum_before = self._clients.get(client, (0, Usage()))
            self._clients[client] = count + 1, sum_before + more

    def closed(self) -> Accounting:
        """What was added up to now."""
        return Accounting(
            session=self._session,
            total=self._total,
            rounds=tuple(sorted(self._rounds, key=lambda each: each.index)),
            clients=tuple(
                ClientAccount(client=client, rounds=count, usage=usage)
                for client, (count, usage) in sorted(self._clients.items())
            ),
        )


def account(session: str, rounds: Iterable[RoundView]) -> Accounting:
    """All of it at once, each round read once."""
    adding = Account(session)
    for view in rounds:
        adding.add(view)
    return adding.closed()


def total_of(usages: Iterable[Usage]) -> Usage:
    """Their sum; nothing at all for none."""
    total = Usage()
    for usage in usages:
        total += usage
    return total
