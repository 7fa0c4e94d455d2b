"""Round-tagged messages that wait to be asked for: one place for each (type, sender, round)."""

from collections.abc import Iterable

from fedn.protocol.errors import LimitExceeded
from fedn.workers.errors import BadMessage
from fedn.workers.message import Message, MessageType

MAX_MESSAGES = 100_000
MAX_BYTES = 4 * 2**30
"""Of all messages that wait."""


class RoundInbox:
    """Rounds never mix: what comes early waits, what comes after its round was taken is dropped and counted."""

    def __init__(self, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._waiting: dict[tuple[MessageType, int, int], tuple[Message, int]] = {}
        self._bytes = 0
        self._taken: dict[tuple[MessageType, int], int] = {}
        self.late = 0
        """Messages dropped since their round was over."""

    def put(self, message: Message, size_bytes: int) -> None:
        """Raises:
        BadMessage: (`no_round`) without a round; (`twice_in_round`) the sender has sent this type in this round before.
        LimitExceeded: (`inbox_full`)
        """
        kind, sender, round_index = message.get_type(), message.get_sender_id(), message.round_index
        where = {"type": kind, "sender": sender, "round": round_index}
        if round_index is None:
            raise BadMessage(
                "no_round",
                "A message of a type that is collected by rounds has none",
                fix="Set round_index.",
                where=where,
            )
        if round_index <= self._taken.get((kind, sender), -1):
            self.late += 1
            return
        key = kind, sender, round_index
        if key in self._waiting:
            raise BadMessage("twice_in_round", "A worker has sent the same type twice in one round", where=where)
        if len(self._waiting) >= self._max_messages or self._bytes + size_bytes > self._max_bytes:
            raise LimitExceeded(
                "inbox_full",
                f"{len(self._waiting)} messages of {self._bytes} bytes wait for their rounds",
                fix="Let workers wait for each other in each round.",
                where=where,
            )
        self._waiting[key] = message, size_bytes
        self._bytes += size_bytes

    def present(self, kind: MessageType, senders: Iterable[int], round_index: int) -> list[int]:
        """Who of the senders has sent its message of the round."""
        return [sender for sender in senders if (kind, sender, round_index) in self._waiting]

    def take(self, kind: MessageType, senders: Iterable[int], round_index: int) -> dict[int, Message]:
        """The messages of the round, by sender ascending; older ones of these senders are dropped as late."""
        senders = sorted(senders)
        found = {
            sender: self._waiting[kind, sender, round_index][0] for sender in self.present(kind, senders, round_index)
        }
        for sender in senders:
            self._taken[kind, sender] = max(round_index, self._taken.get((kind, sender), -1))
        asked = set(senders)
        over = [key for key in self._waiting if key[0] == kind and key[1] in asked and key[2] <= round_index]
        for key in over:
            self._bytes -= self._waiting.pop(key)[1]
        self.late += len(over) - len(found)
        return found
