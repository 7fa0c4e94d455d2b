"""Removes objects of the model store that nothing names: models of rounds that were never committed, and the like."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from fedn.protocol.errors import Conflict, IntegrityError, NotFound
from fedn.protocol.names import is_digest
from fedn.protocol.rest import GcReply
from fedn.reducer.catalog import PACKAGES, Catalog
from fedn.reducer.engine.records import ROUNDS, SESSIONS
from fedn.reducer.engine.session_run import PREDICTIONS
from fedn.reducer.engine.states import read_index
from fedn.reducer.trail import Trail
from fedn.stores.base import Document, ModelStore, StateStore, StoredObject

SAFE_AGE_S = 3600.0
"""While a session runs, younger objects stay: a round may be about to name them."""
_MAX_NAMED = 10_000
_BATCH = 500


class GarbageCollector:
    """Args: clock: Unix time in seconds."""

    def __init__(
        self,
        *,
        state: StateStore,
        models: ModelStore,
        trail: Trail,
        catalog: Catalog,
        session_runs: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._models = models
        self._trail = trail
        self._catalog = catalog
        self._session_runs = session_runs
        self._clock = clock

    def collect(self, older_than_s: float, *, dry_run: bool) -> GcReply:
        """Removes what is unnamed and older than `older_than_s` seconds; with `dry_run`, only says what it would.

        Raises:
            Conflict: (`session_running`) while a session runs, only objects older than an hour can be removed.
        """
        if older_than_s < SAFE_AGE_S and self._session_runs():
            raise Conflict(
                "session_running",
                f"while a session runs, objects younger than {SAFE_AGE_S:.0f} s stay",
                fix=f"Give older_than_s of at least {SAFE_AGE_S:.0f}, or wait for the session's end.",
            )
        with self._catalog.changing:
            # First the objects, then their names: what is stored and named in between is not among these objects.
            before = self._clock() - older_than_s
            objects = list(self._models.objects())
            named = set(self._named())
            unnamed = [item for item in objects if item.object_id not in named and item.stored_at <= before]
            return self._remove(unnamed, len(objects), dry_run)

    def _remove(self, unnamed: list[StoredObject], total: int, dry_run: bool) -> GcReply:
        removed: list[StoredObject] = []
        for item in unnamed:
            try:
                if not dry_run:
                    self._models.delete(item.object_id)
            except Conflict as error:
                if error.code != "object_retained":
                    raise
            else:
                removed.append(item)
        return GcReply(
            removed=tuple(item.object_id for item in removed[:_MAX_NAMED]),
            num_removed=len(removed),
            removed_bytes=sum(item.size_bytes for item in removed),
            kept=total - len(removed),
            retained=len(unnamed) - len(removed),
            dry_run=dry_run,
        )

    def _named(self) -> Iterator[str]:
        for entry in self._trail.iterate():
            yield entry.model_id
            if entry.state_id:
                yield entry.state_id
                yield from self._parts(entry.state_id)
            # Digests of combiner models and updates; they are stored where a plan said keep.
            for model in entry.combiner_models:
                yield model.model_id
                yield from (contribution.update_id for contribution in model.contributions)
        for collection in (PACKAGES, PREDICTIONS, SESSIONS, ROUNDS):
            for document in self._documents(collection):
                yield from _digests(document)

    def _parts(self, state_id: str) -> Iterator[str]:
        """What an index of states names; nothing where it is lost, and with it whatever it named."""
        with suppress(NotFound, IntegrityError):
            yield from read_index(self._models, state_id).values()

    def _documents(self, collection: str) -> Iterator[Document]:
        offset = 0
        while found := self._state.find(collection, limit=_BATCH, offset=offset):
            yield from found
            offset += len(found)


def _digests(value: object) -> Iterator[str]:
    """Every digest in a JSON value: it keeps too much rather than too little."""
    if isinstance(value, str):
        if is_digest(value):
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _digests(item)
    elif isinstance(value, list):
        for item in value:
            yield from _digests(item)
