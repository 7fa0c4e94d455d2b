"""Who left, and who was turned away, with the reason: for the question why a client does not take part."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fedn.protocol.errors import FednError
from fedn.protocol.rest import EventView

KeyT = TypeVar("KeyT")

_MAX_KEPT = 10_000
_MAX_TEXT = 500


@dataclass(frozen=True)
class Turned:
    """What a site was told last, when it was not let in; or why it left."""

    name: str
    code: str
    reason: str
    fix: str
    time: float
    """Unix time in seconds."""
    role: str = "client"


class Visitors:
    """Thread-safe. Keeps the latest of each site's, 10,000 sites at the most.

    Args:
        clock: Unix time in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._turned: OrderedDict[tuple[str, str], Turned] = OrderedDict()
        self._left: OrderedDict[str, Turned] = OrderedDict()

    def turn_away(self, name: str, error: FednError, *, role: str = "client") -> None:
        """A site asked to be let in, and was not; `name` is what it calls itself, nothing that was proven."""
        self.refuse(name, error.code, error.message, error.fix, role=role)

    def refuse(self, name: str, code: str, reason: str, fix: str = "", *, role: str = "client") -> None:
        """As `turn_away`, for what is no error."""
        turned = Turned(name[:_MAX_TEXT], code, reason[:_MAX_TEXT], fix[:_MAX_TEXT], self._clock(), role)
        with self._lock:
            _keep(self._turned, (role, turned.name), turned)

    def let_in(self, name: str, *, role: str = "client") -> None:
        """The site has what it asked for: what it was told before says nothing any more."""
        with self._lock:
            self._turned.pop((role, name[:_MAX_TEXT]), None)

    def note_event(self, event: EventView) -> None:
        """A listener of the event log."""
        client = event.fields.get("client")
        if not isinstance(client, str):
            return
        if event.kind == "client_attached":
            with self._lock:
                self._turned.pop(("client", client), None)
                self._left.pop(client, None)
        elif event.kind == "client_detached":
            reason = str(event.fields.get("reason") or "its stream ended")
            with self._lock:
                _keep(self._left, client, Turned(client, "client_detached", reason[:_MAX_TEXT], "", event.time))

    def turned_away(self) -> list[Turned]:
        """The latest first."""
        with self._lock:
            return sorted(self._turned.values(), key=lambda turned: turned.time, reverse=True)

    def why_not(self, client: str) -> Turned | None:
        """The latest that is known of a client that is not attached."""
        with self._lock:
            found = [self._turned.get(("client", client)), self._left.get(client)]
        return max((turned for turned in found if turned is not None), key=lambda turned: turned.time, default=None)


def _keep(kept: "OrderedDict[KeyT, Turned]", key: KeyT, turned: Turned) -> None:
    kept[key] = turned
    kept.move_to_end(key)
    if len(kept) > _MAX_KEPT:
        kept.popitem(last=False)
