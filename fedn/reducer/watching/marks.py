"""When each client of the latest rounds entered which state: for a round's timeline."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from fedn.protocol.rest import EventView

_MAX_ROUNDS = 64
_MAX_CLIENTS = 2000
"""Of one round; more would fit no page."""


@dataclass
class Marks:
    """Of one attempt at a round. Times are Unix seconds."""

    attempt: int
    dispatched_at: float
    clients: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    """Client to (state, since when), in order."""


class RoundMarks:
    """Thread-safe. Of the latest 64 rounds of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rounds: OrderedDict[tuple[str, int], Marks] = OrderedDict()

    def note_event(self, event: EventView) -> None:
        """A listener of the event log."""
        if event.kind not in {"round_started", "ledger_changed"}:
            return
        key = (str(event.fields.get("session")), int(event.fields.get("round", -1)))
        with self._lock:
            if event.kind == "round_started":
                self._rounds[key] = Marks(int(event.fields.get("attempt", 0)), event.time)
                self._rounds.move_to_end(key)
                if len(self._rounds) > _MAX_ROUNDS:
                    self._rounds.popitem(last=False)
            elif (marks := self._rounds.get(key)) is not None:
                client = str(event.fields.get("client"))
                if client in marks.clients or len(marks.clients) < _MAX_CLIENTS:
                    marks.clients.setdefault(client, []).append((str(event.fields.get("state")), event.time))

    def of(self, session: str, index: int) -> Marks | None:
        """A copy; None for a round that is too old, or was before this process."""
        with self._lock:
            found = self._rounds.get((session, index))
            if found is None:
                return None
            clients = {client: list(marks) for client, marks in found.clients.items()}
            return Marks(found.attempt, found.dispatched_at, clients)
