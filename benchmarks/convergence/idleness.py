"""How long clients had nothing to do in a session, by its ledger. Pure.

A client is busy from the moment at which its combiner sends it a task until it announces the result: the ledger has
both for every task, whatever the scheduler is. It is idle for the rest of the time from the first task of the session
to its last commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import LedgerEntry, RoundState


@dataclass(frozen=True)
class Idleness:
    """Of a session."""

    window_s: float
    """From its first task to its last commit."""
    idle_s: Mapping[str, float]
    """Of each client that had a task, in that time."""

    @property
    def share(self) -> float:
        """Of the clients' time, 0..1."""
        return sum(self.idle_s.values()) / (self.window_s * len(self.idle_s))


def idleness(rounds: Sequence[RoundView]) -> Idleness:
    """Of the rounds of a session, the ones that were given up included. ValueError where none was committed."""
    commits = [one.ended_at for one in rounds if one.state is RoundState.COMMITTED and one.ended_at is not None]
    tasks = {entry.task_id: entry for one in rounds for entry in one.ledger if entry.task_id and entry.sent_at}
    if not commits or not tasks:
        raise ValueError("nothing was committed, so there is no time to divide")
    begin, end = min(entry.sent_at for entry in tasks.values()), max(commits)
    by_client: dict[str, list[tuple[float, float]]] = {}
    for entry in tasks.values():
        by_client.setdefault(entry.client, []).append(_span(entry, end))
    idle = {client: end - begin - _covered(spans, begin, end) for client, spans in sorted(by_client.items())}
    return Idleness(end - begin, idle)


def _span(entry: LedgerEntry, end: float) -> tuple[float, float]:
    """A task that is open at the end was worked on until then."""
    return entry.sent_at, entry.sent_at + entry.busy_ms / 1e3 if entry.busy_ms else end


def _covered(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds of the window that lie in at least one span."""
    covered, reached = 0.0, begin
    for first, last in sorted(spans):
        first, last = max(first, reached), min(last, end)
        if last > first:
            covered += last - first
            reached = last
    return covered
