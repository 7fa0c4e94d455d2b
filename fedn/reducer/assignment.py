"""Which combiner a client shall attach to: the one with the smallest part of its places taken."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedn.reducer.registry import CombinerRecord, Registry

_PROMISE_S = 10.0
"""A client that was assigned counts so long, until it is seen attached."""
_RETRY_NONE_S = 1.0
_RETRY_FULL_S = 5.0


class Attached(Protocol):
    """A client's place; `fedn.reducer.engine.roster.AttachedClient`."""

    @property
    def client(self) -> str: ...

    @property
    def combiner(self) -> str: ...


@dataclass(frozen=True)
class Refusal:
    """Why a client must ask again, and when."""

    code: str
    reason: str
    retry_after_s: float


class Assigner:
    """Thread-safe.

    Args:
        attached: the clients that are attached now, over the whole federation.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        registry: Registry,
        attached: Callable[[], Iterable[Attached]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._attached = attached
        self._clock = clock
        self._lock = threading.Lock()
        self._promised: dict[str, tuple[str, float]] = {}

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
                chosen = _least_packed(alive, taken, avoid)
            if promise and isinstance(chosen, CombinerRecord):
                self._promised[client] = (chosen.name, self._clock() + _PROMISE_S)
            return chosen

    def _taken(self, client: str) -> Mapping[str, set[str]]:
        """Combiner to the clients that are there or on their way, this one left out."""
        now = self._clock()
        places = {attached.client: attached.combiner for attached in self._attached()}
        self._promised = {name: kept for name, kept in self._promised.items() if kept[1] > now}
        places.update({name: combiner for name, (combiner, _) in self._promised.items()})
        places.pop(client, None)
        taken: dict[str, set[str]] = {}
        for name, combiner in places.items():
            taken.setdefault(combiner, set()).add(name)
        return taken


def _load(record: CombinerRecord, taken: Mapping[str, set[str]]) -> float:
    """Part of its places that is taken. Without a link, only the combiner itself knows how many are."""
    known = len(taken.get(record.name, ()))
    return max(known, 0 if record.linked else record.attached) / record.max_clients


def _preferred(name: str, records: Sequence[CombinerRecord], taken: Mapping[str, set[str]]) -> CombinerRecord | Refusal:
    record = next((record for record in records if record.name == name), None)
    if record is None:
        return Refusal("preferred_unknown", f"there is no combiner {name!r}, which this client prefers", _RETRY_FULL_S)
    if not record.alive:
        return Refusal("preferred_dead", f"the preferred combiner {name!r} does not answer", _RETRY_NONE_S)
    if _load(record, taken) >= 1:
        reason = f"the preferred combiner {name!r} has {record.max_clients} clients, as many as it takes"
        return Refusal("preferred_full", reason, _RETRY_FULL_S)
    return record


def _least_packed(
    alive: Sequence[CombinerRecord], taken: Mapping[str, set[str]], avoid: Sequence[str]
) -> CombinerRecord | Refusal:
    if not alive:
        return Refusal("no_combiner", "no combiner is alive now", _RETRY_NONE_S)
    free = [record for record in alive if _load(record, taken) < 1]
    if not free:
        places = sum(record.max_clients for record in alive)
        return Refusal("combiners_full", f"all {places} places at {len(alive)} combiners are taken", _RETRY_FULL_S)
    return min(free, key=lambda record: (record.name in avoid, _load(record, taken), record.name))
