"""Relayed workers without a reducer: places and tickets from the tests' own trust."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedn.network.dialing import Endpoint
from fedn.network.tickets import WorkerTicket
from fedn.workers.relay.desk import Place
from tests.support.wire import Trust


@dataclass(frozen=True)
class At:
    """A combiner's name and its port on this machine."""

    name: str
    port: int


class StubDesk:
    """Gives one worker its place; where to attach and where the home is may change."""

    def __init__(
        self, trust: Trust, rank: int, size: int, home: Callable[[], At], group: str = "g", *, at: At | None = None
    ) -> None:
        self._trust, self._rank, self._size, self._home, self._group, self._at = trust, rank, size, home, group, at
        self.asked: list[tuple[str, ...]] = []

    def join(self, avoid: Sequence[str]) -> Place:
        self.asked.append(tuple(avoid))
        home = self._home()
        at = self._at or home
        client = f"w{self._rank}"
        ticket = WorkerTicket(
            client=client,
            group=self._group,
            size=self._size,
            rank=self._rank,
            home=home.name,
            host="localhost",
            port=home.port,
        )
        endpoint = Endpoint(
            combiner=at.name, host="localhost", port=at.port, token=self._trust.token(client), ca=self._trust.ca
        )
        text = self._trust.ticket_issuer.issue(ticket, 3600)
        return Place(endpoint, text, self._group, self._rank, self._size, expires_at=2e9)

    def renew(self) -> tuple[str, float]:
        return self._trust.token(f"w{self._rank}"), 2e9

    def close(self) -> None:
        pass
