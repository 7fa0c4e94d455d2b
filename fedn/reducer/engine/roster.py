"""The roster: which client is attached to which combiner now, over the whole federation.

Told by the links as clients come and go; whoever starts a round waits here for enough of them. Belongs to the
engine's loop, but for what only looks: that may be called from any thread. Whatever happens for each client that comes
or goes costs the same however many are there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedn.protocol.tasks import TaskKind

RETURN_S = 60.0
"""A client that comes back so soon is best where it was: its task, and half of an upload, may wait for it there."""
REATTACH_GRACE_S = 5.0
"""A round waits so long for the clients of a combiner whose link just broke: they come back elsewhere by themselves."""


@dataclass(frozen=True)
class AttachedClient:
    """A client with an open stream to a combiner."""

    client: str
    combiner: str
    kinds: frozenset[TaskKind]
    attributes: dict[str, str]
    since: float
    """Unix time in seconds."""


class Roster:
    def __init__(self, publish: Callable[..., object]) -> None:
        self._clients: dict[str, AttachedClient] = {}
        self._counts: Counter[str] = Counter()
        """Combiner to its clients."""
        self._able: Counter[TaskKind] = Counter()
        """Kind of task to the clients that do it."""
        self.came = 0
        """Clients that were attached so far."""
        self._missing: dict[str, float] = {}
        """Client to the monotonic time until which it is waited for; the first to be given up first."""
        self._left: dict[str, tuple[str, float]] = {}
        """Client to the combiner that it left, and the monotonic time until which that counts; the oldest first."""
        self._listeners: tuple[Callable[[str, str], None], ...] = ()
        self._changed = asyncio.Event()
        self._publish = publish

    def snapshot(self) -> list[AttachedClient]:
        """Attached clients by name."""
        clients = self._clients.copy()
        return [clients[name] for name in sorted(clients)]

    def __len__(self) -> int:
        return len(self._clients)

    def get(self, client: str) -> AttachedClient | None:
        return self._clients.get(client)

    def counts(self) -> Mapping[str, int]:
        """Combiner to the number of its clients."""
        return dict(self._counts)

    def combiner_of(self, client: str) -> str | None:
        present = self._clients.get(client)
        return present.combiner if present is not None else None

    def left(self, client: str) -> str | None:
        """The combiner that a client left a moment ago."""
        combiner, until = self._left.get(client, (None, 0.0))
        return combiner if until > time.monotonic() else None

    def members(self, kind: TaskKind) -> dict[str, list[str]]:
        """Combiner to its clients that do this kind of task, sorted: the attached, and those that left a moment ago."""
        found: dict[str, list[str]] = {}
        for client in self.able(kind).values():
            found.setdefault(client.combiner, []).append(client.client)
        for name in [name for name in self._left if name not in self._clients]:
            if (combiner := self.left(name)) is not None:
                found.setdefault(combiner, []).append(name)
        return {combiner: sorted(names) for combiner, names in found.items()}

    def on_attach(self, listener: Callable[[str, str], None]) -> Callable[[], None]:
        """Calls it on the loop with each client and the combiner that it is attached to from now on; quick.

        What is returned ends that.
        """
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

        return unsubscribe

    def able(self, kind: TaskKind) -> dict[str, AttachedClient]:
        return {client.client: client for client in self.snapshot() if kind in client.kinds}

    def attach(self, client: AttachedClient) -> str | None:
        """Adds a client. Attached to two combiners, the later counts; returns the one to detach it from, if any."""
        before = self._clients.get(client.client)
        if before is not None and before.combiner != client.combiner and before.since > client.since:
            return client.combiner
        if before is not None:
            self._drop(before)
        self._clients[client.client] = client
        self._counts[client.combiner] += 1
        self.came += before is None
        self._able.update(client.kinds)
        self._missing.pop(client.client, None)
        self._left.pop(client.client, None)
        for listener in self._listeners:
            listener(client.client, client.combiner)
        self._notify()
        if before is not None and before.combiner == client.combiner:
            return None
        self._publish("client_attached", client=client.client, combiner=client.combiner)
        return before.combiner if before is not None else None

    def detach(self, client: str, combiner: str, reason: str) -> None:
        """Removes a client, if that combiner is where it was."""
        present = self._clients.get(client)
        if present is not None and present.combiner == combiner:
            self._drop(present)
            self._note_left(client, combiner)
            self._notify()
            self._publish("client_detached", client=client, combiner=combiner, reason=reason)

    def replace_all(self, combiner: str, clients: list[AttachedClient]) -> list[tuple[str, str]]:
        """A combiner's whole list; returns (client, combiner to detach it from) of those that are attached twice."""
        names = {client.client for client in clients}
        for present in self.snapshot():
            if present.combiner == combiner and present.client not in names:
                self.detach(present.client, combiner, "gone while the link was down")
        doubles = [(client.client, self.attach(client)) for client in clients]
        return [(client, other) for client, other in doubles if other is not None]

    def link_lost(self, combiner: str) -> None:
        """The link to a combiner broke: its clients may be there still, or on their way to another combiner."""
        until = time.monotonic() + REATTACH_GRACE_S
        for present in self.snapshot():
            if present.combiner == combiner:
                self._missing.pop(present.client, None)
                self._missing[present.client] = until
                self._drop(present)
        self._notify()

    def _note_left(self, client: str, combiner: str) -> None:
        now = time.monotonic()
        while self._left and next(iter(self._left.values()))[1] <= now:
            del self._left[next(iter(self._left))]
        self._left.pop(client, None)
        self._left[client] = (combiner, now + RETURN_S)

    def _drop(self, present: AttachedClient) -> None:
        del self._clients[present.client]
        self._counts[present.combiner] -= 1
        self._able.subtract(present.kinds)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _missing_until(self) -> float:
        """Monotonic time until which clients that just went missing are waited for; 0 where none is."""
        now = time.monotonic()
        while self._missing and next(iter(self._missing.values())) <= now:
            del self._missing[next(iter(self._missing))]
        return next(reversed(self._missing.values()), 0.0)

    async def placed(self, places: Mapping[str, str], timeout_s: float) -> list[str]:
        """Waits until each client is at its combiner; the clients that are not, when `timeout_s` is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._misplaced(places):
                    await self._changed.wait()
        except TimeoutError:
            return self._misplaced(places)
        return []

    def _misplaced(self, places: Mapping[str, str]) -> list[str]:
        found = {client.client: client.combiner for client in self.snapshot()}
        return [client for client, combiner in places.items() if found.get(client) != combiner]

    async def gather(self, kind: TaskKind, required: int, timeout_s: float) -> dict[str, AttachedClient]:
        """Clients able to do this kind of task, once there are enough and none that just went missing is awaited.

        After `timeout_s` seconds, those that are there, be they too few.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            enough = self._able[kind] >= required
            missing_until = self._missing_until()
            if (enough and not missing_until) or time.monotonic() >= give_up:
                return self.able(kind)
            wait_until = min(missing_until, give_up) if enough and missing_until else give_up
            changed = self._changed
            try:
                async with asyncio.timeout(max(0.0, wait_until - time.monotonic())):
                    await changed.wait()
            except TimeoutError:
                continue
