"""What a running session needs of the reducer around it, and its one way to the stores."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fedn.protocol.errors import StoreUnavailable
from fedn.reducer.catalog import Catalog
from fedn.reducer.engine.link import CombinerLink
from fedn.reducer.engine.objects import ObjectCache
from fedn.reducer.engine.roster import Roster
from fedn.reducer.events import EventLog
from fedn.reducer.trail import Trail
from fedn.stores.base import ModelStore, StateStore

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class EngineContext:
    """Parts of the reducer by name.

    All calls to the stores go through one thread, in the order in which they were asked for: of two records of the
    same thing, the later stays. A call is repeated for as long as its store is away.
    """

    def __init__(
        self,
        *,
        state: StateStore,
        models: ModelStore,
        trail: Trail,
        events: EventLog,
        catalog: Catalog,
        roster: Roster,
        link: Callable[[str], CombinerLink],
        linked: Callable[[], list[str]],
        place: Callable[[Mapping[str, str]], None],
        epoch: int,
        algorithm: str,
        max_model_bytes: int,
    ) -> None:
        self.state = state
        self.models = models
        self.trail = trail
        self.events = events
        self.catalog = catalog
        self.roster = roster
        self.objects = ObjectCache(models, self.store)
        self.link = link
        self.linked = linked
        """Names of the combiners with an open link, sorted."""
        self.place = place
        """Fixes which client belongs to which combiner."""
        self.epoch = epoch
        self.algorithm = algorithm
        self.max_model_bytes = max_model_bytes
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="engine-store")
        self._closing = threading.Event()

    async def store(self, call: Callable[[], T]) -> T:
        """What the call returns or raises; StoreUnavailable only when the reducer ends meanwhile."""
        return await asyncio.wrap_future(self._writer.submit(self._persist, call))

    def store_later(self, call: Callable[[], object]) -> None:
        """A call that nobody waits for; an error is logged."""
        self._writer.submit(self._persist, call).add_done_callback(_log_error)

    def _persist(self, call: Callable[[], T]) -> T:
        tries = 0
        while True:
            try:
                result = call()
            except StoreUnavailable as error:
                if self._closing.is_set():
                    raise
                if tries == 0:
                    log.warning("a store is away; its call is repeated until it is back: %s", error)
                    self.events.publish("store_unavailable", reason=error.message)
                self._closing.wait(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
            else:
                if tries:
                    self.events.publish("store_back")
                return result

    def close(self) -> None:
        """Ends the thread after the calls that were asked for; those whose store is away are given up."""
        self._closing.set()
        self._writer.shutdown(wait=True)


def _log_error(future: "Future[Any]") -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("a record was not stored: %s", error)
