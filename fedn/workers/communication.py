"""From frames to messages: FedML's communication manager, over any back end."""

import abc
import time
from collections import deque
from collections.abc import Collection

from fedn.models.digest import Buffer
from fedn.protocol.errors import InvalidInput, LimitExceeded
from fedn.workers.backends.base import Arrival, Backend, Departure
from fedn.workers.errors import BadMessage, PeerUnavailable, RoundIncomplete
from fedn.workers.inbox import RoundInbox
from fedn.workers.message import Message, MessageType
from fedn.workers.message_wire import MAX_MESSAGE_BYTES, decode_message, encode_message

MAX_DEFERRED = 100_000
"""Messages for handlers that may wait while `wait_for` waits for others."""


class Observer(abc.ABC):
    """Who hears of messages."""

    @abc.abstractmethod
    def receive_message(self, msg_type: MessageType, msg_params: Message) -> None:
        """A message came; `msg_params` is the whole Message."""

    @abc.abstractmethod
    def receive_departure(self, departure: Departure) -> None:
        """Another worker is gone."""


class BaseCommunicationManager(abc.ABC):
    """FedML's interface of what sends and receives."""

    @abc.abstractmethod
    def send_message(self, msg: Message) -> None:
        """Sends a message to its receiver."""

    @abc.abstractmethod
    def add_observer(self, observer: Observer) -> None:
        """From now on the observer hears of each message."""

    @abc.abstractmethod
    def remove_observer(self, observer: Observer) -> None:
        """From now on it does not."""

    @abc.abstractmethod
    def handle_receive_message(self) -> None:
        """Receives until `stop_receive_message`."""

    @abc.abstractmethod
    def stop_receive_message(self) -> None:
        """Ends `handle_receive_message` and the connection."""


class Communication(BaseCommunicationManager):
    """Messages over a back end. It belongs to one thread, but for send_message, which any may call."""

    def __init__(self, backend: Backend, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.backend = backend
        self.inbox = RoundInbox()
        self.collected: set[MessageType] = set()
        """Types that wait by round for `wait_for` instead of going to observers."""
        self.departed: dict[int, str | None] = {}
        """Workers that are gone: rank to the reason, None where they have finished."""
        self._max_message_bytes = max_message_bytes
        self._observers: list[Observer] = []
        self._deferred: deque[Message | Departure] = deque()
        self._stopped = False
        self._contacts: set[int] = set()

    def send_message(self, msg: Message) -> None:
        """Raises:
        BadMessage, LimitExceeded: it cannot be sent, see encode_message, or its sender is not this worker.
        PeerUnavailable: the receiver is gone or takes nothing; (`worker_finished`) this worker has finished.
        """
        if msg.get_sender_id() != self.backend.rank:
            raise BadMessage(
                "wrong_sender",
                f"Worker {self.backend.rank} cannot send a message of worker {msg.get_sender_id()}",
                fix="Make it with Message(type, self.get_sender_id(), receiver).",
            )
        frame = encode_message(msg, max_bytes=self._max_message_bytes)
        self._contacts.add(msg.get_receiver_id())
        self.backend.send(msg.get_receiver_id(), frame)

    def add_observer(self, observer: Observer) -> None:
        self._observers.append(observer)

    def remove_observer(self, observer: Observer) -> None:
        self._observers.remove(observer)

    def handle_receive_message(self) -> None:
        """Until it is stopped, or all have finished with whom this worker has exchanged messages, and nothing waits.

        So clients end when their server has finished, though each other client still listens as they do.
        """
        while not self._stopped:
            if self._deferred:
                self._notify(self._deferred.popleft())
            elif not self._all_have_left():
                self._receive(None)
            elif not self._receive(0):
                return

    def stop_receive_message(self) -> None:
        self.close(None)

    def close(self, reason: str | None) -> None:
        """As `stop_receive_message`, and tells the others why, if this worker has failed."""
        self._stopped = True
        self.backend.close(reason)

    def wait_for(
        self, kind: MessageType, neighbours: Collection[int], round_index: int, timeout_s: float, quorum: int | None
    ) -> dict[int, Message]:
        """See WorkerManager.wait_for."""
        wanted = set(neighbours)
        enough = len(wanted) if quorum is None else quorum
        if not 0 <= enough <= len(wanted):
            raise InvalidInput("bad_quorum", f"A quorum of {enough} cannot be had from {len(wanted)} workers")
        deadline = time.monotonic() + timeout_s
        while True:
            present = set(self.inbox.present(kind, wanted, round_index))
            missing = sorted(wanted - present)
            if not missing:
                break
            left = deadline - time.monotonic()
            nobody_left = all(rank in self.departed for rank in missing)
            if nobody_left or left <= 0:
                if len(present) >= enough:
                    break
                self._cannot_complete(kind, round_index, missing, nobody_left, timeout_s)
            self._receive(left)
        return self.inbox.take(kind, wanted, round_index)

    def _all_have_left(self) -> bool:
        """Whether nobody is left of those whom this worker has heard or spoken to, if any, nor of all others."""
        others = set(range(self.backend.size)) - {self.backend.rank}
        contacts = self._contacts & others
        return bool(others) and (contacts or others) <= self.departed.keys()

    def _receive(self, timeout_s: float | None) -> bool:
        """Takes one thing from the back end and puts it where it belongs; whether there was one."""
        came = self.backend.receive(timeout_s)
        if isinstance(came, Departure):
            self.departed[came.rank] = came.reason
            self._defer(came)
        elif isinstance(came, Arrival):
            message = self._read(came.sender, came.frame)
            self._contacts.add(came.sender)
            if message.get_type() in self.collected:
                self.inbox.put(message, len(came.frame))
            else:
                self._defer(message)
        return came is not None

    def _read(self, sender: int, frame: Buffer) -> Message:
        message = decode_message(frame, max_bytes=self._max_message_bytes)
        if (message.get_sender_id(), message.get_receiver_id()) != (sender, self.backend.rank):
            raise BadMessage(
                "wrong_sender", "A message came by another way than its head says", where={"sender": sender}
            )
        return message

    def _defer(self, item: Message | Departure) -> None:
        if len(self._deferred) >= MAX_DEFERRED:
            raise LimitExceeded(
                "inbox_full", f"{MAX_DEFERRED} messages wait for their handlers", fix="Return from handlers sooner."
            )
        self._deferred.append(item)

    def _notify(self, item: Message | Departure) -> None:
        for observer in list(self._observers):
            if isinstance(item, Departure):
                observer.receive_departure(item)
            else:
                observer.receive_message(item.get_type(), item)

    def _cannot_complete(
        self, kind: MessageType, round_index: int, missing: list[int], nobody_left: bool, timeout_s: float
    ) -> None:
        where = {"worker": self.backend.rank, "round": round_index, "type": kind}
        names = ", ".join(map(str, missing))
        if nobody_left:
            reasons = "; ".join(f"{rank}: {self.departed[rank] or 'it has finished'}" for rank in missing)
            raise PeerUnavailable(
                "peer_lost",
                f"Nothing can come any more from {names} ({reasons})",
                fix="Give wait_for a quorum, if the round can do without.",
                where=where,
            )
        raise RoundIncomplete(
            "round_incomplete",
            f"Nothing has come from {names} within {timeout_s:g} s",
            fix="See their logs; give more time, or a quorum.",
            where=where,
        )
