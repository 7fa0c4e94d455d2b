import threading
from typing import Any

import pytest

from fedn.protocol.errors import Conflict, StoreUnavailable
from fedn.reducer import lease as module
from fedn.reducer.lease import LeaseKeeper
from fedn.stores.base import Lease


class Leases:
    """Answers what the test says, and remembers what was asked."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.asked = threading.Semaphore(0)
        self.released: list[Lease] = []

    def _answer(self) -> Lease:
        self.asked.release()
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return Lease("reducer", "me", 7, 0.0)

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        return self._answer()

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        return self._answer()

    def release_lease(self, lease: Lease) -> None:
        self.released.append(lease)


AWAY = StoreUnavailable("store_unavailable", "the store is away")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.01)
    monkeypatch.setattr(module, "_RETRY_S", 0.01)


def keeper(leases: Any) -> tuple[LeaseKeeper, threading.Event]:
    lost = threading.Event()
    return LeaseKeeper(leases, "me", lost.set), lost


def test_the_lease_is_renewed_until_it_is_given_back() -> None:
    leases = Leases()
    held, lost = keeper(leases)
    assert held.acquire(patience_s=0) == 7
    for _ in range(3):
        assert leases.asked.acquire(timeout=60)
    held.release()
    assert len(leases.released) == 1 and not lost.is_set()


def test_a_store_that_is_away_is_waited_for() -> None:
    held, lost = keeper(Leases(AWAY, AWAY, None, AWAY, None))
    assert held.acquire(patience_s=60) == 7
    held.release()
    assert not lost.is_set()


def test_a_store_that_stays_away_is_given_up() -> None:
    held, _ = keeper(Leases(*[AWAY] * 1000))
    with pytest.raises(StoreUnavailable):
        held.acquire(patience_s=0.05)
    held.release()


def test_another_holder_is_told_at_once() -> None:
    held, _ = keeper(Leases(Conflict("lease_held", "another reducer has it")))
    with pytest.raises(Conflict, match="lease_held"):
        held.acquire(patience_s=60)


def test_who_lost_the_lease_is_told() -> None:
    held, lost = keeper(Leases(None, AWAY, Conflict("lease_lost", "another reducer took over")))
    held.acquire(patience_s=0)
    assert lost.wait(60)
    held.release()
