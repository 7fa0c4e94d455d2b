"""Which combiner a client shall attach to: the one that it just left, or the one with the smallest part of its places
taken."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedn.reducer.registry import CombinerRecord, Registry

_PROMISE_S = 10.0
"""A client that was assigned counts so long, until it is seen attached."""
_RETRY_NONE_S = 1.0
_RETRY_FULL_S = 5.0


class Places(Protocol):
    """Who is attached where, over the whole federation; `fedn.reducer.engine.roster.Roster`. From any thread."""

    def counts(self) -> Mapping[str, int]:
        """Combiner to its attached clients."""

    def combiner_of(self, client: str) -> str | None:
        """Where a client is attached."""

    def left(self, client: str) -> str | None:
        """The combiner that a client left a moment ago."""

    def on_attach(self, listener: Callable[[str, str], None]) -> object:
        """Calls it, from any thread, with each client and combiner when the one is attached to the other."""


@dataclass(frozen=True)
class Refusal:
    """Why a client must ask again, and when."""

    code: str
    reason: str
    retry_after_s: float


class Assigner:
    """Thread-safe. What one question costs does not grow with the number of clients: they may all come at once.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, registry: Registry, places: Places, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._places = places
        self._clock = clock
        self._lock = threading.Lock()
        self._promised: dict[str, tuple[str, float]] = {}
        """Client to the combiner and the end of the promise; the oldest first."""
        self._promises: Counter[str] = Counter()
        """Combiner to the number of those."""
        places.on_attach(self._came)

    def assign(
        self, client: str, preferred: str = "", avoid: Sequence[str] = (), *, promise: bool = True
    ) -> CombinerRecord | Refusal:
        """A living combiner with a free place, or why there is none. What a running session fixed weighs most.

        Args:
            preferred: the combiner that the client wants: no other is assigned, unless `avoid` names it.
            avoid: combiners that the client just tried in vain; assigned only where no other has a place.
            promise: whether the place is kept for the client for a moment.
        """
        records = self._registry.combiners()
        alive = [record for record in records if record.alive]
        with self._lock:
            taken = self._taken(client)
            fixed = self._registry.place_of(client)
            if fixed is not None and any(record.name == fixed for record in alive):
                chosen: CombinerRecord | Refusal = _preferred(fixed, records, taken)
            elif preferred and preferred not in avoid:
                chosen = _preferred(preferred, records, taken)
            else:
                left = self._places.left(client)
                chosen = _back(left, alive, taken, avoid) or _least_packed(alive, taken, avoid)
            if promise and isinstance(chosen, CombinerRecord):
                self._forget(client)
                self._promised[client] = (chosen.name, self._clock() + _PROMISE_S)
                self._promises[chosen.name] += 1
            return chosen

    def _taken(self, client: str) -> Mapping[str, int]:
        """Combiner to its clients: those that are there, and those on their way; this one left out."""
        now = self._clock()
        while self._promised and next(iter(self._promised.values()))[1] <= now:
            self._forget(next(iter(self._promised)))
        taken = Counter(self._places.counts())
        taken.update(self._promises)
        own = {self._places.combiner_of(client), self._promised[client][0] if client in self._promised else None}
        for combiner in own - {None}:
            taken[str(combiner)] -= 1
        return taken

    def _came(self, client: str, combiner: str) -> None:
        """A client that is there is counted as that."""
        with self._lock:
            promised = self._promised.get(client)
            if promised is not None and promised[0] == combiner:
                self._forget(client)

    def _forget(self, client: str) -> None:
        """Ends a promise, if there is one."""
        promised = self._promised.pop(client, None)
        if promised is not None:
            self._promises[promised[0]] -= 1


def _load(record: CombinerRecord, taken: Mapping[str, int]) -> float:
    """Part of its places that is taken. Without a link, only the combiner itself knows how many are."""
    known = taken.get(record.name, 0)
    return max(known, 0 if record.linked else record.attached) / record.max_clients


def _preferred(name: str, records: Sequence[CombinerRecord], taken: Mapping[str, int]) -> CombinerRecord | Refusal:
    record = next((record for record in records if record.name == name), None)
    if record is None:
        return Refusal("preferred_unknown", f"there is no combiner {name!r}, which this client prefers", _RETRY_FULL_S)
    if not record.alive:
        return Refusal("preferred_dead", f"the preferred combiner {name!r} does not answer", _RETRY_NONE_S)
    if _load(record, taken) >= 1:
        reason = f"the preferred combiner {name!r} has {record.max_clients} clients, as many as it takes"
        return Refusal("preferred_full", reason, _RETRY_FULL_S)
    return record


def _back(
    left: str | None, alive: Sequence[CombinerRecord], taken: Mapping[str, int], avoid: Sequence[str]
) -> CombinerRecord | None:
    """The combiner that the client left, if it can be had."""
    if left is None or left in avoid:
        return None
    return next((record for record in alive if record.name == left and _load(record, taken) < 1), None)


def _least_packed(
    alive: Sequence[CombinerRecord], taken: Mapping[str, int], avoid: Sequence[str]
) -> CombinerRecord | Refusal:
    if not alive:
        return Refusal("no_combiner", "no combiner is alive now", _RETRY_NONE_S)
    free = [record for record in alive if _load(record, taken) < 1]
    if not free:
        places = sum(record.max_clients for record in alive)
        return Refusal("combiners_full", f"all {places} places at {len(alive)} combiners are taken", _RETRY_FULL_S)
    return min(free, key=lambda record: (record.name in avoid, _load(record, taken), record.name))
