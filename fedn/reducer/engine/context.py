"""What a running session needs of the reducer around it, and its ways to the stores."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from fedn.protocol.errors import FednError, StoreUnavailable
from fedn.reducer.catalog import Catalog
from fedn.reducer.engine.link import CombinerLink
from fedn.reducer.engine.objects import ObjectCache
from fedn.reducer.engine.roster import Roster
from fedn.reducer.events import EventLog
from fedn.reducer.trail import Trail
from fedn.stores.base import ModelStore, Put, StateStore

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

Documents = Callable[[], Sequence[Put]]


class EngineContext:
    """Parts of the reducer by name.

    Records go to the state store through one thread, in the order in which they were asked for; models, and the trail
    entries that name them, through another, so that a large model does not keep a small record waiting. A call is
    repeated for as long as its store is away.
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
        spool: Path,
    ) -> None:
        self.state = state
        self.models = models
        self.trail = trail
        self.events = events
        self.catalog = catalog
        self.roster = roster
        self.objects = ObjectCache(models, self.store_model)
        self.link = link
        self.linked = linked
        """Names of the combiners with an open link, sorted."""
        self.place = place
        """Fixes which client belongs to which combiner."""
        self.epoch = epoch
        self.algorithm = algorithm
        self.max_model_bytes = max_model_bytes
        self.spool = spool
        """Folder for what does not fit into memory; may not be there yet."""
        self._records = ThreadPoolExecutor(1, thread_name_prefix="engine-records")
        self._models = ThreadPoolExecutor(1, thread_name_prefix="engine-models")
        self._noted: dict[str, Documents] = {}
        self._noting = threading.Lock()
        self._closing = threading.Event()

    # Records

    def note(self, name: str, documents: Documents) -> None:
        """Writes something down soon, without anybody waiting for it; what was noted last under a name stays.

        It outlives this process in a moment, and a crash of the store's machine from the next commit on. An error is
        logged.

        Args:
            documents: makes the documents when they are written, in the thread of records.
        """
        with self._noting:
            is_first = not self._noted
            self._noted[name] = documents
        if is_first:
            self._records.submit(self._write_noted).add_done_callback(_log_error)

    def _write_noted(self) -> None:
        with self._noting:
            noted, self._noted = self._noted, {}
        puts = [put for documents in noted.values() for put in documents()]
        if not puts:
            return
        try:
            self._persist(lambda: self.state.put_all(puts, durable=False))
        except FednError as error:
            if isinstance(error, StoreUnavailable) or len(puts) == 1:
                raise
            for put in puts:  # one of them cannot be stored
                self._records.submit(self._persist, _put(self.state, put)).add_done_callback(_log_error)

    async def store(self, call: Callable[[], T]) -> T:
        """What a call returns or raises, which is done after all that was noted before was written.

        StoreUnavailable only when the reducer ends meanwhile.
        """

        def ordered() -> T:
            self._write_noted()
            return self._persist(call)

        return await asyncio.wrap_future(self._records.submit(ordered))

    def store_later(self, call: Callable[[], object]) -> None:
        """A call that nobody waits for; an error is logged."""
        self._records.submit(self._persist, call).add_done_callback(_log_error)

    # Models

    async def store_model(self, call: Callable[[], T]) -> T:
        """As `store`, for models and for commits to the trail: in their order, apart from records.

        A call that has begun ends, whoever gives up waiting for it.
        """
        return await asyncio.wrap_future(self._models.submit(self._persist, call))

    def submit_model(self, call: Callable[[], None]) -> "Future[None]":
        """As `store_model`, for who does not wait."""
        return self._models.submit(self._persist, call)

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
        """Ends the threads after the calls that were asked for; those whose store is away are given up."""
        self._closing.set()
        self._models.shutdown(wait=True)
        self._records.shutdown(wait=True)


def _put(state: StateStore, put: Put) -> Callable[[], None]:
    return lambda: state.put(put.collection, put.key, put.document)


def _log_error(future: "Future[Any]") -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("a record was not stored: %s", error)
