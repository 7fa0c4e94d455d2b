from typing import Any

from fedn.protocol.errors import StoreUnavailable
from fedn.reducer.health import StoreHealth
from fedn.stores.memory import MemoryModelStore


class State:
    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def ping(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("store_unavailable", "the state store does not answer")


def test_the_stores_are_asked_now_and_then_however_many_ask_us() -> None:
    now, state = [0.0], State()
    health = StoreHealth(state, MemoryModelStore(), clock=lambda: now[0])  # type: ignore[arg-type]
    first: Any = [health.check() for _ in range(5)][-1]
    assert {name: status.state for name, status in first.items()} == {"state": "ok", "models": "ok"}
    assert state.asked == 1
    state.away, now[0] = True, 10.0
    assert health.check()["state"].state == "unavailable"
    assert health.check()["state"].message == "the state store does not answer"
    assert state.asked == 2
