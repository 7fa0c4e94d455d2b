"""The numbered events of one round, kept so that a reducer which comes back hears all that it missed."""

import time
from collections.abc import Callable

from fedn.network.convert import ledger_to_wire, round_to_wire
from fedn.network.generated import combiner_pb2 as link
from fedn.protocol.rounds import LedgerEntry
from fedn.protocol.tasks import RoundName

Listener = Callable[[bytes, bool], None]
"""Takes an event's message, and whether somebody waits for it."""


class EventLog:
    """Events count from 1. Each is kept as the message that carries it, ready for any stream."""

    def __init__(self, name: RoundName) -> None:
        self._name = round_to_wire(name)
        self._messages: list[bytes] = []
        self._listeners: set[Listener] = set()

    @property
    def last(self) -> int:
        """Number of the newest event; 0 where there is none."""
        return len(self._messages)

    @property
    def watched(self) -> bool:
        return bool(self._listeners)

    def ledger(self, entry: LedgerEntry) -> None:
        self._append(link.RoundEvent(ledger=ledger_to_wire(entry)), prompt=False)

    def handed_up(self, number: int, result: link.RoundDone) -> None:
        self._append(link.RoundEvent(handed_up=link.HandedUp(number=number, result=result)), prompt=True)

    def done(self, result: link.RoundDone) -> None:
        self._append(link.RoundEvent(done=result), prompt=True)

    def watch(self, listener: Listener, from_event: int) -> None:
        """`listener` gets the messages of the events from that number on, those that are there at once."""
        for message in self._messages[max(from_event, 1) - 1 :]:
            listener(message, True)
        self._listeners.add(listener)

    def unwatch(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def _append(self, event: link.RoundEvent, *, prompt: bool) -> None:
        event.round.CopyFrom(self._name)
        event.number = len(self._messages) + 1
        event.time_unix_s = time.time()
        message = link.LinkFrame(event=event).SerializeToString()
        self._messages.append(message)
        for listener in tuple(self._listeners):
            listener(message, prompt)
