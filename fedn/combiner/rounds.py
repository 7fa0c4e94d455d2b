"""The rounds that live on this combiner: which there are, which attempt counts, and how long a result is kept."""

import asyncio
from collections.abc import Iterator

from fedn.combiner.buffered import BufferedRound, round_of
from fedn.combiner.clients import Peer
from fedn.combiner.events import Listener
from fedn.combiner.results import RoundServices
from fedn.combiner.round import Round
from fedn.combiner.tasks import OpenTask
from fedn.protocol.errors import Conflict, NotFound
from fedn.protocol.rounds import RoundSpec
from fedn.protocol.tasks import RoundName

_REMEMBERED_ROUNDS = 1024
"""Highest attempts kept of rounds that are gone, against late repetitions."""


class Rounds:
    """See the module. Belongs to one loop. Of each (session, index) only the highest (epoch, attempt) lives."""

    def __init__(self, services: RoundServices, keep_result_s: float) -> None:
        self._services = services
        self._keep_result_s = keep_result_s
        self._rounds: dict[RoundName, Round] = {}
        self._tasks: dict[str, tuple[Round, OpenTask]] = {}
        self._highest: dict[tuple[str, int], tuple[int, int]] = {}
        self._expiry: dict[RoundName, asyncio.TimerHandle] = {}
        self._released: set[asyncio.Task[None]] = set()
        self.ended = 0
        """Rounds that were let go so far."""
        services.clients.listen(self)
        services.objects.on_arrival(self._object_arrived)

    def __iter__(self) -> Iterator[Round]:
        return iter(tuple(self._rounds.values()))

    def start(self, spec: RoundSpec) -> Round:
        """The round of this name, started where it is new; a buffered one takes in the tasks that are new.

        Raises:
            Conflict: (`round_fenced`) a higher attempt or epoch of this round was here.
            InvalidInput: the rule is unknown, or the tasks do not make a round.
        """
        name = spec.name
        known = self._rounds.get(name)
        if known is not None:
            if isinstance(known, BufferedRound):
                self._tasks |= {task_id: (known, task) for task_id, task in known.grow(spec).items()}
            return known
        place, rank = (name.session, name.index), (name.epoch, name.attempt)
        if rank <= self._highest.get(place, (-1, -1)):
            raise Conflict(
                "round_fenced",
                "this attempt at the round is over: it was acknowledged, or a later attempt took its place",
                fix="Start the round again with a higher attempt.",
                where={"round": name},
            )
        new = round_of(spec, self._services)
        for old in [r for r in self._rounds.values() if (r.name.session, r.name.index) == place]:
            self.release(old.name)
        self._highest.pop(place, None)
        self._highest[place] = rank
        while len(self._highest) > _REMEMBERED_ROUNDS:
            del self._highest[next(iter(self._highest))]
        self._rounds[name] = new
        for task_id, task in new.tasks.items():
            self._tasks[task_id] = (new, task)
        new.start()
        self.unwatched(new)
        return new

    def get(self, name: RoundName) -> Round:
        """NotFound (`round_unknown`) where this combiner does not hold it."""
        found = self._rounds.get(name)
        if found is None:
            raise NotFound(
                "round_unknown",
                "this combiner does not hold the round",
                fix="Start the round again with a higher attempt: the combiner was restarted, or let it go.",
                where={"round": name},
            )
        return found

    def task(self, client: str, task_id: str) -> tuple[Round, OpenTask] | None:
        """The task of this client, where it is one of a round that lives."""
        found = self._tasks.get(task_id)
        return found if found is not None and found[1].spec.client == client else None

    def release(self, name: RoundName) -> None:
        """Lets a round go; nothing where it is not held."""
        gone = self._rounds.pop(name, None)
        if gone is None:
            return
        self._keep(name)
        for task_id in gone.tasks:
            if self._tasks.get(task_id, (None,))[0] is gone:
                del self._tasks[task_id]
        gone.release()
        self.ended += 1
        job = asyncio.create_task(gone.wait_closed())
        self._released.add(job)
        job.add_done_callback(self._released.discard)

    def watch(self, watched: Round, listener: Listener, from_event: int) -> None:
        """Events go to `listener`, and the result is kept as long as somebody listens."""
        self._keep(watched.name)
        watched.events.watch(listener, from_event)

    def unwatch(self, watched: Round, listener: Listener) -> None:
        watched.events.unwatch(listener)
        self.unwatched(watched)

    def unwatched(self, alone: Round) -> None:
        """Without a watcher, a round has its own time plus `keep_result_s`."""
        if alone.events.watched or alone.name not in self._rounds:
            return
        self._keep(alone.name)
        running_s = 0.0 if alone.done else alone.spec.deadline_s + alone.spec.upload_grace_s
        loop = asyncio.get_running_loop()
        self._expiry[alone.name] = loop.call_later(running_s + self._keep_result_s, self.release, alone.name)

    async def close(self) -> None:
        for name in tuple(self._rounds):
            self.release(name)
        if self._released:
            await asyncio.wait(self._released)

    def client_attached(self, peer: Peer) -> None:
        for running in self:
            running.attached(peer)

    def client_detached(self, peer: Peer, reason: str) -> None:
        for running in self:
            running.detached(peer.info.client)

    def _object_arrived(self, object_id: str) -> None:
        for running in self:
            running.object_arrived(object_id)

    def _keep(self, name: RoundName) -> None:
        timer = self._expiry.pop(name, None)
        if timer is not None:
            timer.cancel()
