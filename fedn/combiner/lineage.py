"""What counts of clients' earlier updates, for a session whose rule goes by them: the updates in the combiner's store,
and the rule's aggregate of them, which outlives rounds.

The aggregate follows from what the store holds, so it may be made anew from there at any time: after a restart, when
the store lost something, when rounding may show.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fedn.aggregation.lineage import LineageAggregate, LineageRule, Row
from fedn.combiner.jobs import Jobs
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, header_size, read_spec
from fedn.plan.logs import bind
from fedn.protocol.errors import InvalidInput, NotFound
from fedn.stores.updates.base import KeptUpdate, UpdateFacts
from fedn.stores.updates.store import UpdateStore

_log = bind(__name__)


class Lineages:
    """The lineages of the session whose rounds came last; those of others are forgotten. Belongs to one loop.

    Args:
        store: None: it is off.
    """

    def __init__(self, store: UpdateStore | None) -> None:
        self._store = store
        self._current: Lineage | None = None
        self._forgetting = Jobs(lambda error: _log.warning(f"updates of a session stay in the store: {error}"))

    def of(self, session: str, rule: LineageRule) -> "Lineage":
        """The lineage of a session.

        Raises:
            InvalidInput: (`update_store_off`, `lineage_too_short`) the combiner keeps less than the rule goes by.
        """
        if self._current is None or self._current.session != session:
            self._current = Lineage(_enough(self._store, rule), session, rule)
        return self._current

    def forget(self, session: str) -> None:
        """The session is over for good: nothing is kept of it. Where the store is away, it goes with the next one."""
        if self._current is not None and self._current.session == session:
            self._current = None
        if self._store is not None:
            self._forgetting.start(asyncio.to_thread(self._store.reset, session))

    async def wait_closed(self) -> None:
        """Until nothing is being forgotten any more."""
        await self._forgetting.wait()


class Lineage:
    """See the module. Calls block, and may be made from any thread.

    Each call raises StoreUnavailable where the store does not answer and is needed; then what counts is as before.
    """

    def __init__(self, store: UpdateStore, session: str, rule: LineageRule) -> None:
        self.session = session
        self._store = store
        self._rule = rule
        self._lock = threading.RLock()
        self._aggregate: LineageAggregate | None = None
        self._rows: ModelSpec | None = None
        """Spec of every row; None as long as there is none."""
        self._counted: dict[str, list[KeptUpdate]] = {}
        """Client to what counts of it, old to new."""
        self._sound = False
        """Whether the aggregate is that of what is counted."""
        self._is_open = False
        """Whether what the store had at the beginning was looked at."""
        self._new: set[str] = set()
        """Clients whose updates came after the last seal: the reducer may not have heard of them."""

    def open(self) -> None:
        """At the beginning: what the store has of the session counts, of all clients, until `sealed` says of whom."""
        with self._lock:
            if not self._is_open:
                self._make_anew(None)

    def keep_only(self, members: frozenset[str]) -> None:
        """Forgets all clients but these; what the store has of them counts."""
        with self._lock:
            self._new.clear()
            self._count_only(members)

    def put(self, facts: UpdateFacts, data: Pieces) -> None:
        """Lets an update count, as the latest of its client.

        Args:
            data: a row, read during the call only.

        Raises:
            LimitExceeded: (`update_store_full`) there is no room to keep it; nothing has changed.
        """
        with self._lock:
            before = self._readable(facts.client)
            spec = _spec_of(data)
            if self._aggregate is None:
                self._rows, self._aggregate = spec, self._rule.start_lineage(spec)
            elif spec != self._rows:
                raise InvalidInput(
                    "aggregates_do_not_fit",
                    "the update has other tensors than earlier ones of the session",
                    fix="Start a new session for another model.",
                    where={"client": facts.client, "session": self.session},
                )
            kept = self._store.insert(facts, data)
            counts = [*self._counted.get(facts.client, []), kept][-self._rule.lineage :]
            rows = [*before, Row(data, kept.weight)][-self._rule.lineage :]
            self._replace(facts.client, before, rows, counts)
            self._new.add(facts.client)

    @contextmanager
    def sealed(
        self, members: frozenset[str] | None = None
    ) -> Iterator[tuple[LineageAggregate | None, list[KeptUpdate]]]:
        """(Aggregate, latest update of each client that counts in it); they do not change meanwhile. None: of none.

        Args:
            members: clients that count; others are forgotten. But what came of them since the last seal stays until the
                next one: a client that moved here may be a member then. None: whoever counts.
        """
        with self._lock:
            if members is not None:
                self._count_only(members)
            if not self._is_good():
                self._make_anew(frozenset(self._counted))
            counted = [self._counted[client][-1] for client in sorted(self._counted)]
            yield (self._aggregate if counted else None), counted
            self._new.clear()

    def make_anew(self) -> None:
        """From the store, in the order of client names: then it is the same to the bit, however it came about."""
        with self._lock:
            self._make_anew(frozenset(self._counted))

    def _count_only(self, members: frozenset[str]) -> None:
        if not self._is_good():
            self._make_anew(members)
            return
        gone = [client for client in self._counted if client not in members]
        for client in gone:
            self._change(client, [])
        self._erase_but(members)
        back = [client for client in self._store.clients(self.session) if client in members - self._counted.keys()]
        wanted = dict.fromkeys(back, self._rule.lineage)
        for client, lineage in self._store.select(self.session, dict(wanted)).items():
            self._sound = False
            self._admit(client, lineage, self._counted)
            self._sound = True

    def _is_good(self) -> bool:
        return self._sound and not (self._aggregate is not None and self._aggregate.drifted)

    def _readable(self, client: str) -> list[Row]:
        """What counts of a client. Where the store has lost it, all that counts is made anew from what is left."""
        try:
            if not self._sound:
                self._make_anew(frozenset(self._counted))
            return self._read(self._counted.get(client, []))
        except NotFound as error:
            _log.warning(f"what counts of the session is made anew: {error}", extra={"session": self.session})
            self._make_anew(frozenset(self._counted))
            return self._read(self._counted.get(client, []))

    def _change(self, client: str, after: list[KeptUpdate]) -> None:
        before = self._readable(client)
        if client in self._counted:  # it may be gone with what was lost
            self._replace(client, before, self._read(after), after)

    def _replace(self, client: str, before: Sequence[Row], rows: Sequence[Row], after: list[KeptUpdate]) -> None:
        assert self._aggregate is not None  # something counted, or was put
        self._sound = False
        self._aggregate.replace(before, rows)
        if after:
            self._counted[client] = after
        else:
            del self._counted[client]
        self._sound = True

    def _make_anew(self, members: frozenset[str] | None) -> None:
        """None: of all clients that the store has updates of."""
        store, session = self._store, self.session
        for other in store.sessions():
            if other != session:
                store.reset(other)
        if members is not None:
            self._erase_but(members)
        self._sound, self._aggregate, self._rows = False, None, None
        counted: dict[str, list[KeptUpdate]] = {}
        there = [client for client in store.clients(session) if members is None or client in members]
        wanted = dict.fromkeys(there, self._rule.lineage)
        for client, lineage in store.select(session, dict(wanted)).items():
            self._admit(client, lineage, counted)
        self._counted, self._sound, self._is_open = counted, True, True

    def _erase_but(self, members: frozenset[str]) -> None:
        """Forgets all clients but these, and those who are new."""
        spared = members | self._new
        self._store.erase(self.session, [name for name in self._store.clients(self.session) if name not in spared])

    def _admit(self, client: str, lineage: list[KeptUpdate], counted: dict[str, list[KeptUpdate]]) -> None:
        """What the store has of a client, of which nothing counts, goes to `counted`, where it is whole and fits."""
        try:
            rows = self._read(lineage)
        except NotFound as error:
            _log.warning(f"an update counts no longer: {error}", extra={"session": self.session})
            return
        spec = _spec_of(rows[-1].model)
        if self._aggregate is None:
            self._rows, self._aggregate = spec, self._rule.start_lineage(spec)
        if spec == self._rows:
            self._aggregate.replace([], rows)
            counted[client] = lineage

    def _read(self, lineage: Sequence[KeptUpdate]) -> list[Row]:
        return [Row(self._store.read(update), update.weight) for update in lineage]


def _spec_of(data: Pieces) -> ModelSpec:
    return read_spec(data.copy(0, header_size(data.copy(0, 8)) or 0), len(data))


def _enough(store: UpdateStore | None, rule: LineageRule) -> UpdateStore:
    if store is None:
        raise InvalidInput(
            "update_store_off",
            f"the rule {rule.name} goes by clients' earlier updates, and this combiner keeps none",
            fix="Set updates.kind of the combiner to memory, files or redis, or choose another rule.",
        )
    if store.eviction.longest is not None and store.eviction.longest < rule.lineage:
        raise InvalidInput(
            "lineage_too_short",
            f"the rule {rule.name} goes by {rule.lineage} updates of each client, and this combiner keeps "
            f"{store.eviction.longest}",
            fix=f"Set updates.lineage_length of the combiner to {rule.lineage} at least.",
        )
    return store
