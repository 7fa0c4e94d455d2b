"""The right to write: one reducer process a federation holds it, and gives up when another took it over."""

import logging
import threading
import time
from collections.abc import Callable

from fedn.protocol.errors import Conflict, StoreUnavailable
from fedn.stores.base import Lease, StateStore

log = logging.getLogger(__name__)

NAME = "reducer"
TTL_S = 15.0
_RENEW_S = 5.0
_RETRY_S = 1.0


class LeaseKeeper:
    """Holds the lease from `acquire` until `release`.

    Args:
        holder: the same for every process on one data directory, so that a restarted one takes over at once.
        on_lost: called once, in a thread of the keeper's, when another reducer has the lease.
    """

    def __init__(self, state: StateStore, holder: str, on_lost: Callable[[], object]) -> None:
        self._state = state
        self._holder = holder
        self._on_lost = on_lost
        self._lease: Lease | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease")

    def acquire(self, patience_s: float) -> int:
        """The writer epoch. A store that is away is waited for.

        Raises:
            Conflict: (`lease_held`) another reducer is running on these stores.
            StoreUnavailable: the state store did not answer for `patience_s` seconds.
        """
        give_up = time.monotonic() + patience_s
        while self._lease is None:
            try:
                self._lease = self._state.acquire_lease(NAME, self._holder, TTL_S)
            except StoreUnavailable as error:
                if time.monotonic() > give_up:
                    raise
                log.warning("waiting for the state store: %s", error)
                self._ending.wait(_RETRY_S)
        self._thread.start()
        return self._lease.epoch

    def release(self) -> None:
        """Gives it up. Where the store is away, it runs out by itself."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lease is not None:
            try:
                self._state.release_lease(self._lease)
            except StoreUnavailable as error:
                log.warning("the lease was not given back; it ends in %.0f s: %s", TTL_S, error)

    def _renew(self) -> None:
        wait_s = _RENEW_S
        while self._lease is not None and not self._ending.wait(wait_s):
            try:
                self._lease = self._state.renew_lease(self._lease, TTL_S)
                wait_s = _RENEW_S
            except StoreUnavailable as error:
                # Who cannot reach the store cannot write either: it is enough to try again.
                log.warning("the lease is not renewed yet: %s", error)
                wait_s = _RETRY_S
            except Conflict as error:
                log.error("another reducer took over: %s", error)
                self._on_lost()
                return
