"""Whether the stores answer: asked at most every few seconds, however many ask us."""

import threading
import time
from collections.abc import Callable

from fedn.protocol.errors import FednError, NotFound
from fedn.protocol.rest import StoreStatus
from fedn.stores.base import ModelStore, StateStore

_FRESH_S = 5.0
_NO_OBJECT = "blake3:" + "0" * 64


class StoreHealth:
    """Thread-safe. While one caller asks the stores, others get the last answer."""

    def __init__(self, state: StateStore, models: ModelStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks: dict[str, Callable[[], object]] = {
            "state": state.ping,
            "models": lambda: _ask(models),
        }
        self._clock = clock
        self._asking = threading.Lock()
        self._answers: dict[str, StoreStatus] = {}
        self._asked_at = -_FRESH_S

    def check(self) -> dict[str, StoreStatus]:
        """State of `state` and `models`, at most 5 seconds old unless a store is slow to answer."""
        if self._clock() - self._asked_at < _FRESH_S:
            return self._answers
        if not self._asking.acquire(blocking=not self._answers):
            return self._answers
        try:
            if self._clock() - self._asked_at >= _FRESH_S:
                self._answers = {name: _status(check) for name, check in self._checks.items()}
                self._asked_at = self._clock()
            return self._answers
        finally:
            self._asking.release()


def _ask(models: ModelStore) -> None:
    try:
        models.stat(_NO_OBJECT)
    except NotFound:
        return


def _status(check: Callable[[], object]) -> StoreStatus:
    try:
        check()
    except FednError as error:
        return StoreStatus(state="unavailable", message=error.message)
    return StoreStatus(state="ok")
