"""The combiners of the federation: where they are, and which of them are alive. Which client goes where: `assignment`.

Places are kept in the state store, so that a restarted reducer finds its combiners; signs of life are not.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fedn.network.tls import check_host
from fedn.protocol.errors import Conflict, NotFound
from fedn.protocol.names import check_name
from fedn.protocol.rest import CombinerHeartbeat, CombinerRegistration, CombinerView
from fedn.reducer.events import EventLog
from fedn.stores.base import StateStore

COMBINERS = "combiners"


@dataclass(frozen=True)
class CombinerRecord:
    """A combiner as it is known now."""

    name: str
    host: str
    port: int
    instance: str
    max_clients: int
    registered_at: float
    """Unix time in seconds, as the next one."""
    last_heartbeat: float
    alive: bool = False
    """A heartbeat within `dead_after_s`, or an open link."""
    linked: bool = False
    attached: int = 0
    """Clients, as the link says, or the heartbeat where there is none."""
    rounds: int = 0
    rss_bytes: int = 0

    def view(self) -> CombinerView:
        return CombinerView(
            name=self.name,
            host=self.host,
            port=self.port,
            instance=self.instance,
            max_clients=self.max_clients,
            attached_clients=self.attached,
            rounds=self.rounds,
            rss_bytes=self.rss_bytes,
            alive=self.alive,
            linked=self.linked,
            last_heartbeat=self.last_heartbeat,
            registered_at=self.registered_at,
        )


class Registry:
    """Thread-safe. `start` reads what is known and begins to watch for combiners that fall silent; `stop` ends that.

    Args:
        dead_after_s: seconds without link and heartbeat after which a combiner is dead.
        clock: Unix time in seconds.
    """

    def __init__(
        self, state: StateStore, events: EventLog, *, dead_after_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._state = state
        self._events = events
        self._dead_after_s = dead_after_s
        self._clock = clock
        self._records: dict[str, CombinerRecord] = {}
        self._places: dict[str, str] = {}
        self._callbacks: list[Callable[[], object]] = []
        self._writing = threading.Lock()
        """Orders what is written; `_changed` is never held while a store is waited for."""
        self._changed = threading.Condition()
        self._stopping = False
        self._watcher = threading.Thread(target=self._watch, name="combiner-watch")

    def start(self) -> None:
        for document in self._state.find(COMBINERS, order_by="name"):
            registration = CombinerRegistration.model_validate(document["registration"])
            at = float(document["registered_at"])
            self._records[registration.name] = _record(registration, registered_at=at, heard_at=at)
        self._watcher.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._watcher.is_alive():
            self._watcher.join()

    # What combiners say

    def register(self, registration: CombinerRegistration) -> CombinerRecord:
        """Adds a combiner, or takes note of its new place, limit or process.

        Raises:
            Conflict: (`address_taken`) a living combiner of another name is at that address.
            InvalidInput: `bad_name`; `bad_host` (gRPC would take `unix:…` or `xds:…` for more than a host).
        """
        check_name(registration.name, what="combiner")
        check_host(registration.host)
        now = self._clock()
        with self._writing:
            with self._changed:
                self._check_address(registration)
            document = {"name": registration.name, "registration": registration.model_dump(), "registered_at": now}
            self._state.put(COMBINERS, registration.name, document)
            before, record = self._note(registration, now)
        if before is None or not before.alive or before.instance != record.instance:
            self._events.publish("combiner_added", combiner=record.name, host=record.host, port=record.port)
        self._tell()
        return record

    def _note(self, registration: CombinerRegistration, now: float) -> tuple[CombinerRecord | None, CombinerRecord]:
        with self._changed:
            before = self._records.get(registration.name)
            record = replace(_record(registration, registered_at=now, heard_at=now), alive=True)
            if before is not None:
                # The engine alone knows of the link. It may have found a process that was started anew before that
                # one registers; it says so once, when the link opens.
                record = replace(record, linked=before.linked, attached=before.attached)
                if before.instance == registration.instance:
                    record = replace(record, rounds=before.rounds)
            self._records[record.name] = record
            self._changed.notify_all()
        return before, record

    def _check_address(self, registration: CombinerRegistration) -> None:
        for other in self._records.values():
            same = (other.host, other.port) == (registration.host, registration.port)
            if same and other.alive and other.name != registration.name:
                raise Conflict(
                    "address_taken",
                    f"the combiner {other.name!r} is at this address already",
                    fix="Give each combiner a public_host and port of its own.",
                    where={"combiner": registration.name, "address": f"{other.host}:{other.port}"},
                )

    def heartbeat(self, name: str, heartbeat: CombinerHeartbeat) -> CombinerRecord:
        """Takes note that it lives.

        Raises:
            NotFound: (`no_such_combiner`) it is not known, or was started anew: it must register.
        """
        with self._changed:
            before = self._records.get(name)
            if before is None or before.instance != heartbeat.instance:
                raise _unknown(name, fix="Register the combiner again: POST /api/v1/combiners.")
            record = replace(
                before,
                last_heartbeat=self._clock(),
                alive=True,
                attached=before.attached if before.linked else heartbeat.attached_clients,
                rounds=heartbeat.rounds,
                rss_bytes=heartbeat.rss_bytes,
            )
            self._records[name] = record
            if not before.alive:
                self._changed.notify_all()
        if not before.alive:
            self._events.publish("combiner_added", combiner=name, host=record.host, port=record.port)
        self._tell()
        return record

    def set_link(self, name: str, up: bool, attached: int) -> None:
        """Said by the engine: the link to a combiner is open or not, and how many clients it told of. Quick."""
        with self._changed:
            before = self._records.get(name)
            if before is None:
                return
            now = self._clock()
            # A link that breaks was alive until now: the combiner gets the whole time to show itself again.
            heard = now if up or before.linked else before.last_heartbeat
            alive = up or before.alive
            record = replace(before, linked=up, attached=attached, last_heartbeat=heard, alive=alive)
            self._records[name] = record
            self._changed.notify_all()
        if up and not before.alive:
            self._events.publish("combiner_added", combiner=name, host=record.host, port=record.port)

    def place(self, places: Mapping[str, str]) -> None:
        """Said by the engine: which client belongs to which combiner, where a session fixes that; empty: nowhere."""
        with self._changed:
            self._places = dict(places)

    def remove(self, name: str) -> None:
        """Forgets a combiner. NotFound (`no_such_combiner`)."""
        with self._writing:
            self.get(name)
            self._state.delete(COMBINERS, name)
            with self._changed:
                del self._records[name]
        self._events.publish("combiner_lost", combiner=name, reason="it was removed")
        self._tell()

    # What others ask

    def place_of(self, client: str) -> str | None:
        """The combiner that a running session fixed for this client."""
        with self._changed:
            return self._places.get(client)

    def combiners(self) -> list[CombinerRecord]:
        """By name."""
        with self._changed:
            return sorted(self._records.values(), key=lambda record: record.name)

    def get(self, name: str) -> CombinerRecord:
        """NotFound (`no_such_combiner`)."""
        with self._changed:
            record = self._records.get(name)
        if record is None:
            raise _unknown(name)
        return record

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls it, in any thread, after each registration, heartbeat, removal and death; returns how to end that."""
        with self._changed:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._changed:
                self._callbacks.remove(callback)

        return unsubscribe

    def _tell(self) -> None:
        with self._changed:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def _watch(self) -> None:
        """Waits for the next moment at which a silent combiner counts as dead."""
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = self._clock()
                silent = [record for record in self._records.values() if record.alive and not record.linked]
                dead = [record for record in silent if record.last_heartbeat + self._dead_after_s <= now]
                for record in dead:
                    self._records[record.name] = replace(record, alive=False, attached=0)
                if not dead:
                    next_at = min((record.last_heartbeat for record in silent), default=None)
                    self._changed.wait(None if next_at is None else next_at + self._dead_after_s - now)
                    continue
            for record in dead:
                reason = f"no heartbeat for {self._dead_after_s:g} s"
                self._events.publish("combiner_lost", combiner=record.name, reason=reason)
            self._tell()


def _record(registration: CombinerRegistration, *, registered_at: float, heard_at: float) -> CombinerRecord:
    return CombinerRecord(
        name=registration.name,
        host=registration.host,
        port=registration.port,
        instance=registration.instance,
        max_clients=registration.max_clients,
        registered_at=registered_at,
        last_heartbeat=heard_at,
    )


def _unknown(name: str, fix: str = "List the combiners with: fedn combiner list.") -> NotFound:
    return NotFound("no_such_combiner", "there is no such combiner", fix=fix, where={"combiner": name})
