"""The event log: what happened, in order, for everybody who watches.

Events are kept in a ring in memory, from which all watchers read, and are written to the state store by one thread, so
that publishing never waits for a store. The log tells; nothing is ever decided by it.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from fedn.protocol.errors import FednError, StoreUnavailable, Unavailable
from fedn.protocol.rest import EventView, as_json
from fedn.stores.base import JsonText, StateStore

log = logging.getLogger(__name__)

KEPT_EVENTS = 10_000
"""Events that can be read again, also after a restart."""
_BATCH = 500
_GATHER_S = 0.1
"""Events wait so long for others to be written with: a transaction for each would cost more than the rounds tell."""
_GATHER_FOR_WATCHERS_S = 0.05
_RETRY_S = 1.0
_DRAIN_S = 5.0
_TRIM_EVERY = 1000

Listener = Callable[[EventView], None]


class EventLog:
    """Thread-safe. `start` before the first `publish`; `stop` once.

    Numbers grow by one within a process, and begin at the Unix time in milliseconds: they grow over restarts too, even
    where the last events before a crash were not written any more.

    Args:
        state: where events are written to; they are lost for later processes while it is away for long.
        max_subscriptions: watchers at once.
        kept: events in memory and in the store.
    """

    def __init__(
        self, state: StateStore, *, max_subscriptions: int = 128, kept: int = KEPT_EVENTS, clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._clock = clock
        self._kept = kept
        self._max_subscriptions = max_subscriptions
        self._subscriptions = 0
        self._changed = threading.Condition()
        self._ring: deque[EventView] = deque(maxlen=kept)
        self._unwritten: deque[EventView] = deque()
        self._messages: dict[int, bytes] = {}
        """Of the events that were told last, by their numbers."""
        self._dropped = 0
        self._last = 0
        self._listeners: tuple[Listener, ...] = ()
        self._stopping = threading.Event()
        self._closed = False
        self._unreadable = threading.Event()
        self._writer = threading.Thread(target=self._write_all, name="event-writer")

    def start(self) -> None:
        """Reads what earlier processes wrote. StoreUnavailable where the store does not answer."""
        after = 0
        while found := self._state.events(after, _BATCH):
            self._ring.extend(EventView.model_validate(document) for _, document in found)
            after = found[-1][0]
        earlier = self._ring[-1].number if self._ring else 0
        self._last = max(earlier, int(self._clock() * 1000))
        self._writer.start()

    def end_subscriptions(self) -> None:
        """Ends those that are open, and any that is opened from now on."""
        with self._changed:
            self._unreadable.set()
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends all subscriptions, and writes what is not written yet as far as the store answers for 5 seconds."""
        self.end_subscriptions()
        with self._changed:
            self._closed = True
            self._stopping.set()
            self._changed.notify_all()
        if self._writer.is_alive():
            self._writer.join()

    def add_listener(self, listener: Listener) -> None:
        """Calls it with each event, in the publisher's thread: it must be quick and must not raise."""
        self._listeners = (*self._listeners, listener)

    def publish(self, kind: str, /, **fields: Any) -> int:
        """Adds an event and returns its number. Quick: waits for no store."""
        values = as_json(fields)
        with self._changed:
            self._last += 1
            event = EventView(number=self._last, kind=kind, time=self._clock(), fields=values)
            self._ring.append(event)
            if len(self._unwritten) >= self._kept:
                self._unwritten.popleft()
                self._dropped += 1
            self._unwritten.append(event)
            self._changed.notify_all()
        for listener in self._listeners:
            listener(event)
        return event.number

    @property
    def subscriptions(self) -> int:
        """Open streams, live pages included."""
        with self._changed:
            return self._subscriptions

    @property
    def last(self) -> int:
        """Number of the latest event."""
        with self._changed:
            return self._last

    def after(self, number: int, limit: int) -> list[EventView]:
        """The first `limit` kept events with a greater number, in order."""
        with self._changed:
            return self._from(number, limit)

    def latest(self, limit: int) -> list[EventView]:
        """The last `limit` events, in order."""
        with self._changed:
            return list(itertools.islice(self._ring, max(0, len(self._ring) - limit), None))

    def message(self, event: EventView) -> bytes:
        """The event as a server-sent one; made once for all who are told it about now."""
        with self._changed:
            made = self._messages.get(event.number)
        if made is None:
            made = f"id: {event.number}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()
            with self._changed:
                self._messages[event.number] = made
                while len(self._messages) > _BATCH:
                    del self._messages[next(iter(self._messages))]
        return made

    def subscribe(self, after: int | None = None) -> "Subscription":
        """Events with a number greater than `after` (None: from now on). Unavailable as `take_place`."""
        self.take_place()
        with self._changed:
            return Subscription(self, self._last if after is None else after)

    def take_place(self) -> None:
        """Counts one more open stream, to be given back with `leave_place`: live pages and subscriptions share them.

        Raises:
            Unavailable: (`too_many_streams`) `max_subscriptions` are open.
        """
        with self._changed:
            if self._subscriptions >= self._max_subscriptions:
                raise Unavailable(
                    "too_many_streams",
                    f"{self._subscriptions} event streams are open, and no more are allowed",
                    fix="Close pages that are not needed, or raise max_event_streams.",
                )
            self._subscriptions += 1

    def leave_place(self) -> None:
        with self._changed:
            self._subscriptions -= 1

    def _from(self, number: int, limit: int) -> list[EventView]:
        """With the lock held. Looks from the newest back: watchers mostly want the last few."""
        newer: list[EventView] = []
        for event in reversed(self._ring):
            if event.number <= number:
                break
            newer.append(event)
        newer.reverse()
        return newer[:limit]

    def _wait(self, number: int, timeout_s: float) -> list[EventView] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._unreadable.is_set() or self._last > number, timeout_s)
            many = self._last >= number + _BATCH
            none = self._last <= number
        if not many and not none:
            # Events come in flocks: to wake a watcher for each of them would cost more than to tell them.
            self._unreadable.wait(_GATHER_FOR_WATCHERS_S)
        with self._changed:
            return self._from(number, _BATCH) if not self._unreadable.is_set() else None

    def _write_all(self) -> None:
        """Writes events in order, each until the store has it; those that come at about the same time at once."""
        written, give_up = 0, 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unwritten or self._closed)
            self._stopping.wait(_GATHER_S)
            with self._changed:
                if self._closed:
                    give_up = give_up or time.monotonic() + _DRAIN_S
                if not self._unwritten or (give_up and time.monotonic() > give_up):
                    break
                batch = list(itertools.islice(self._unwritten, _BATCH))
                dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning("%d events were not written: the state store was away for too long", dropped)
            done = self._write(batch)
            if done:
                self._forget(batch[done - 1].number)
                before, written = written, written + done
                if before // _TRIM_EVERY < written // _TRIM_EVERY:
                    self._trim()
            elif self._closed:
                break
            else:
                self._stopping.wait(_RETRY_S)

    def _forget(self, last: int) -> None:
        """The events up to that number need not be written any more."""
        with self._changed:
            while self._unwritten and self._unwritten[0].number <= last:
                self._unwritten.popleft()

    def _write(self, events: list[EventView]) -> int:
        """How many of these events are done with; 0 where the store is away."""
        try:
            self._state.append_events([JsonText(event.model_dump_json()) for event in events])
        except StoreUnavailable as error:
            log.debug("the events from %d on are not written yet: %s", events[0].number, error)
            return 0
        except FednError as error:
            if len(events) > 1:  # one of them is at fault, and none was written
                return self._write(events[:1])
            log.error("an event of kind %s cannot be written: %s", events[0].kind, error)
        return len(events)

    def _trim(self) -> None:
        try:
            self._state.trim_events(self._kept)
        except StoreUnavailable as error:
            log.debug("old events are not removed yet: %s", error)


class Subscription:
    """One watcher's place in the log. A context manager; used by one thread."""

    def __init__(self, events: EventLog, after: int) -> None:
        self._events = events
        self._open = True
        self.position = after
        """Number of the last event that was handed out."""

    def next(self, timeout_s: float) -> list[EventView] | None:
        """The events since the last call, waiting for one for at most `timeout_s` seconds: [] where none came.

        None: the log has stopped. A watcher slower than the log keeps events misses some: their numbers are skipped.
        """
        found = self._events._wait(self.position, timeout_s)
        if found:
            self.position = found[-1].number
        return found

    def close(self) -> None:
        """Makes room for another subscription; may be called twice."""
        if self._open:
            self._open = False
            self._events.leave_place()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
