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


def account(session: str, rounds: Iterable[RoundView]) -> Accounting:
    """Adds up what the rounds' ledgers say, each round read once."""
    of_rounds: list[RoundAccount] = []
    of_clients: dict[str, tuple[int, Usage]] = {}
    for view in rounds:
        spent = dict(view.spent)
        for entry in view.ledger:
            if entry.task_id:
                spent[entry.client] = spent.get(entry.client, Usage()) + usage_of(entry)
        of_rounds.append(
            RoundAccount(
                index=view.index,
                kind=view.kind,
                state=view.state,
                attempts=view.attempt + 1,
                wall_ms=0.0 if view.ended_at is None else (view.ended_at - view.started_at) * 1e3,
                usage=total_of(spent.values()),
            )
        )
        for client, usage in spent.items():
            count, before = of_clients.get(client, (0, Usage()))
            of_clients[client] = count + 1, before + usage
    return Accounting(
        session=session,
        total=total_of(each.usage for each in of_rounds),
        rounds=tuple(sorted(of_rounds, key=lambda each: each.index)),
        clients=tuple(
            ClientAccount(client=client, rounds=count, usage=usage)
            for client, (count, usage) in sorted(of_clients.items())
        ),
    )


def total_of(usages: Iterable[Usage]) -> Usage:
    """Their sum; nothing at all for none."""
    total = Usage()
    for usage in usages:
        total += usage
    return total
