"""Relayed workers without a reducer: places and tickets from the tests' own trust, with certificates of their own."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fedn.network.dialing import Endpoint
from fedn.network.tickets import WorkerTicket
from fedn.network.tokens import Role
from fedn.workers.relay.desk import Place
from tests.support.wire import Trust


@dataclass(frozen=True)
class At:
    """A combiner's name and its port on this machine."""

    name: str
    port: int


class StubDesk:
    """Gives one worker its `place` in a group that is at home at a combiner; it attaches to that or to another one."""

    def __init__(self, trust: Trust, rank: int, size: int, home: At, at: At) -> None:
        self._trust, self._client = trust, f"w{rank}"
        self._files = trust.tls(self._client, Role.CLIENT)
        ticket = WorkerTicket(
            client=self._client,
            group="g",
            size=size,
            rank=rank,
            entrance=at.name,
            home=home.name,
            host="localhost",
            port=home.port,
            expires_at=time.time() + 3600,
        )
        endpoint = Endpoint(
            combiner=at.name,
            host="localhost",
            port=at.port,
            token=self._token(),
            ca=trust.ca,
            key=self._files.key,
            certificate=self._files.certificate,
        )
        self.place = Place(endpoint, trust.ticket_issuer.issue(ticket), "g", rank, size, expires_at=2e9)

    def join(self, avoid: Sequence[str]) -> Place:
        return self.place

    def renew(self) -> tuple[str, float]:
        return self._token(), 2e9

    def close(self) -> None:
        pass

    def _token(self) -> str:
        return self._trust.token(self._client, key_id=self._trust.key_id(self._files))
