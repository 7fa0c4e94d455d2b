"""The update store: which updates are kept, how many of each client and how many bytes of all.

Not here: where the bytes lie (the shelves beside this module).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from fedn.models.digest import Hasher
from fedn.models.pieces import Pieces
from fedn.protocol.errors import InvalidInput, LimitExceeded, NotFound, StoreUnavailable
from fedn.stores.updates.base import KeptUpdate, Shelf, UpdateFacts, UpdateStoreStatistics
from fedn.stores.updates.eviction import Eviction

log = logging.getLogger(__name__)

_ALGORITHM = "blake3"


class UpdateStore:
    """Lineages of updates by session and client, on one shelf. Calls block and may be made from any thread.

    The shelf is looked through at the first call that needs to know what is there, so that one that is away keeps
    nobody from starting; and again when it turns out to have lost something. Each call raises StoreUnavailable where
    the shelf does not answer; then nothing has changed, and the call may be repeated.

    Args:
        shelf: closed with the store.
        eviction: what goes when an update comes.
        max_bytes: of all updates together.
        clock: Unix time in seconds.
    """

    def __init__(
        self, shelf: Shelf, eviction: Eviction, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.eviction = eviction
        self._shelf = shelf
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.RLock()
        self._index: dict[str, dict[str, list[KeptUpdate]]] | None = None
        """Session to client to its updates, old to new; None: not known."""
        self._next = 0
        self._statistics = UpdateStoreStatistics(0, 0)

    @property
    def statistics(self) -> UpdateStoreStatistics:
        """As far as is known; does not wait for the shelf."""
        return self._statistics

    def sessions(self) -> list[str]:
        """Those that something is kept of, sorted."""
        with self._lock:
            return sorted(self._known())

    def clients(self, session: str) -> list[str]:
        """Those that something is kept of, sorted."""
        with self._lock:
            return sorted(self._known().get(session, {}))

    def insert(self, facts: UpdateFacts, data: Pieces) -> KeptUpdate:
        """Keeps a copy of an update as the latest of its client; older ones go as the eviction says.

        Raises:
            LimitExceeded: (`update_store_full`) it does not fit beside what stays; nothing is kept and nothing goes.
        """
        with self._lock:
            lineage = self._known().get(facts.session, {}).get(facts.client, [])
            update = KeptUpdate(
                **facts.model_dump(),
                number=self._next,
                object_id=_digest(data),
                size_bytes=len(data),
                kept_at=self._clock(),
            )
            surplus = self.eviction.surplus([*lineage, update])
            freed = sum(gone.size_bytes for gone in surplus)
            if self._statistics.size_bytes - freed + update.size_bytes > self._max_bytes:
                raise LimitExceeded(
                    "update_store_full",
                    f"an update of {update.size_bytes} bytes does not fit into the combiner's update store beside "
                    f"{self._statistics.size_bytes - freed} others of {self._max_bytes} allowed",
                    fix="Raise the combiner's setting updates.max_bytes, or let it keep fewer: updates.lineage_length.",
                    where={"client": facts.client},
                )
            self._shelf.write(update, data)
            self._next += 1
            self._add(update)
            self._evict(surplus)
            return update

    def select(self, session: str, wanted: Mapping[str, int | None]) -> dict[str, list[KeptUpdate]]:
        """The latest updates of each client, old to new.

        Args:
            wanted: client to how many; None: all. Where fewer are there, these are what comes, down to none.

        Raises:
            InvalidInput: (`bad_option`) less than 1 of a client is asked for.
        """
        if too_few := [client for client, count in wanted.items() if count is not None and count < 1]:
            raise InvalidInput(
                "bad_option", f"Less than 1 update of {too_few[0]} was asked for", fix="Ask for 1 or more."
            )
        with self._lock:
            there = self._known().get(session, {})
            return {client: there.get(client, [])[-(count or 0) :] for client, count in wanted.items()}

    def read(self, update: KeptUpdate) -> Pieces:
        """The bytes of an update, checked; good after it went too.

        Raises:
            NotFound: (`kept_update_lost`) they are gone or damaged; then the store forgets the update, and looks
                through its shelf again.
        """
        with self._lock:
            try:
                data = self._shelf.read(update)
                if len(data) == update.size_bytes and _digest(data) == update.object_id:
                    return data
                self._shelf.remove([update])
                raise lost(update)
            except NotFound:
                self._index = None
                raise

    def erase(self, session: str, clients: Iterable[str]) -> None:
        """Forgets all updates of these clients in a session."""
        with self._lock:
            there = self._known().get(session, {})
            self._remove([update for client in clients for update in there.get(client, [])])

    def reset(self, session: str) -> None:
        """Forgets all updates of a session."""
        self.erase(session, self.clients(session))

    def expunge(self) -> None:
        """Forgets everything."""
        for session in self.sessions():
            self.reset(session)

    def close(self) -> None:
        with self._lock:
            self._shelf.close()

    def _known(self) -> dict[str, dict[str, list[KeptUpdate]]]:
        """The index, loaded where it is not known."""
        if self._index is None:
            found = sorted(self._shelf.load(), key=lambda update: update.number)
            self._index = {}
            self._statistics = UpdateStoreStatistics(0, 0)
            for update in found:
                self._add(update)
                self._next = max(self._next, update.number + 1)
        return self._index

    def _add(self, update: KeptUpdate) -> None:
        assert self._index is not None  # the callers asked for it
        self._index.setdefault(update.session, {}).setdefault(update.client, []).append(update)
        self._count(update, 1)

    def _count(self, update: KeptUpdate, sign: int) -> None:
        now = self._statistics
        self._statistics = UpdateStoreStatistics(now.entries + sign, now.size_bytes + sign * update.size_bytes)

    def _evict(self, surplus: Iterable[KeptUpdate]) -> None:
        try:
            self._remove(surplus)
        except StoreUnavailable as error:
            # The new update is in. What should have gone goes with the next one.
            log.warning("older updates were not removed from the update store: %s", error)

    def _remove(self, updates: Iterable[KeptUpdate]) -> None:
        gone = list(updates)
        if not gone:
            return
        self._shelf.remove(gone)
        index = self._known()
        for update in gone:
            lineages = index.get(update.session, {})
            lineage = lineages.get(update.client, [])
            if update in lineage:
                lineage.remove(update)
                self._count(update, -1)
            if not lineage:
                lineages.pop(update.client, None)
            if not lineages:
                index.pop(update.session, None)


def lost(update: KeptUpdate) -> NotFound:
    return NotFound(
        "kept_update_lost",
        "the update store no longer has an update of a client, or has other bytes in its place",
        fix="Its client counts again with its next update. Look whether the store was restarted, or lacks memory.",
        where={"client": update.client, "session": update.session, "round": update.round_index},
    )


def _digest(data: Pieces) -> str:
    hasher = Hasher(_ALGORITHM)
    for view in data.views():
        hasher.update(view)
    return hasher.digest()
