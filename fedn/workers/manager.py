"""The worker: what it does when a message of a type comes. FedML's manager, without its hangs."""

import logging
from collections.abc import Callable, Collection
from typing import Any

from fedn.protocol.errors import InvalidInput
from fedn.workers.backends import Backend, Departure, attach
from fedn.workers.communication import Communication, Observer
from fedn.workers.errors import BadMessage, PeerUnavailable
from fedn.workers.message import Message, MessageType

Handler = Callable[[Message], Any]

DEFAULT_TIMEOUT_S = 300.0

log = logging.getLogger(__name__)


class WorkerManager(Observer):
    """Subclass it, register handlers in `register_message_receive_handlers`, and call `run`.

    Handlers run one at a time, in the thread of `run`. An exception of a handler leaves `run` as it is; the other
    workers hear of it and end too, unless they override `peer_lost`.

    Args:
        args: what the program likes; kept as it is.
        comm: the connection (a Backend); None: the one that this thread or process was launched with.
        rank: of this worker; must be the connection's where it is not 0.
        size: number of workers; must be the connection's where it is not 0.
        backend: name of the back end to attach to, where comm is None; None: the one that the launcher has chosen.
    """

    def __init__(
        self, args: Any = None, comm: Backend | None = None, rank: int = 0, size: int = 0, backend: str | None = None
    ) -> None:
        self.args = args
        self.comm = comm if comm is not None else attach(backend)
        for name, given, real in (("rank", rank, self.comm.rank), ("size", size, self.comm.size)):
            if given not in {0, real}:
                raise InvalidInput("wrong_rank", f"The worker's {name} is {real}, and {given} was given")
        self.rank, self.size = self.comm.rank, self.comm.size
        self.com_manager = Communication(self.comm)
        self.com_manager.add_observer(self)
        self.message_handler_dict: dict[MessageType, Handler] = {}
        self._finished = False

    def register_message_receive_handlers(self) -> None:
        """Override it: call register_message_receive_handler for each type that may come."""

    def register_message_receive_handler(self, msg_type: MessageType, handler_callback_func: Handler) -> None:
        """From now on `handler_callback_func(message)` is called for each message of this type; the last one counts.

        Raises:
            InvalidInput: (`collected_type`) the type is collected by rounds.
        """
        if msg_type in self.com_manager.collected:
            raise InvalidInput("collected_type", f"Messages of type {msg_type!r} are collected by rounds already")
        self.message_handler_dict[msg_type] = handler_callback_func

    def collect_by_round(self, msg_type: MessageType) -> None:
        """From now on messages of this type wait, each in its round, for `wait_for`, instead of going to a handler.

        Raises:
            InvalidInput: (`collected_type`) the type has a handler.
        """
        if msg_type in self.message_handler_dict:
            raise InvalidInput("collected_type", f"Messages of type {msg_type!r} have a handler already")
        self.com_manager.collected.add(msg_type)

    def run(self) -> Any:
        """Receives messages until `finish`, or until all have finished with whom this worker exchanged any.

        A subclass may return what it likes.

        Raises:
            Exception: whatever a handler raises, with a note that says at which message.
            PeerUnavailable: (`peer_lost`) another worker has died, unless peer_lost is overridden.
            BadMessage: (`unknown_message_type`) a message came for which nothing is registered.
        """
        try:
            self.register_message_receive_handlers()
            self.com_manager.handle_receive_message()
        except BaseException as error:
            self.com_manager.close(f"{type(error).__name__}: {error}")
            raise
        self.finish()

    def send_message(self, message: Message) -> None:
        """Sends a message; it may be changed afterwards, what was sent stays. Blocks while the receiver is full.

        A worker that has finished sends nothing more: the log says what was dropped.

        Raises:
            BadMessage, LimitExceeded: it cannot be sent.
            PeerUnavailable: the receiver is gone, or takes nothing.
        """
        if self._finished:
            log.warning("worker %d has finished: a message is not sent: %r", self.rank, message)
            return
        self.com_manager.send_message(message)

    def wait_for(
        self,
        neighbours: Collection[int],
        round: int,
        timeout: float = DEFAULT_TIMEOUT_S,
        quorum: int | None = None,
        *,
        msg_type: MessageType | None = None,
    ) -> dict[int, Message]:
        """The messages of a round from these workers, by rank. Others wait meanwhile for their handlers or rounds.

        Args:
            neighbours: ranks to wait for.
            round: the round that the messages are tagged with.
            timeout: in seconds.
            quorum: so many are enough when the time is over, or when the missing workers are gone; None: all.
            msg_type: one of the types of collect_by_round; None: the only one.

        Raises:
            RoundIncomplete: (`round_incomplete`) the time is over without a quorum.
            PeerUnavailable: (`peer_lost`) nothing can come any more from those who are missing.
            InvalidInput: (`not_collected`) the type is not collected; (`bad_quorum`) more than there are neighbours.
        """
        collected = self.com_manager.collected
        if msg_type is None and len(collected) == 1:
            (msg_type,) = collected
        if msg_type is None or msg_type not in collected:
            raise InvalidInput(
                "not_collected",
                f"Type {msg_type!r} is not collected by rounds; these are: {sorted(map(repr, collected))}",
                fix="Call collect_by_round(type) first, and name the type where there are several.",
            )
        return self.com_manager.wait_for(msg_type, neighbours, round, timeout, quorum)

    def finish(self) -> None:
        """Ends this worker: what it has sent arrives, `run` returns after the handler that runs now."""
        if not self._finished:
            self._finished = True
            self.com_manager.stop_receive_message()

    def get_sender_id(self) -> int:
        """This worker's rank."""
        return self.rank

    def peer_lost(self, rank: int, reason: str) -> None:
        """Another worker has died. Override it to go on without.

        Raises:
            PeerUnavailable: (`peer_lost`) so does this method itself.
        """
        raise PeerUnavailable(
            "peer_lost",
            f"Worker {rank} is lost: {reason}",
            fix=f"See the log of worker {rank}.",
            where={"worker": rank},
        )

    def receive_message(self, msg_type: MessageType, msg_params: Message) -> None:
        handler = self.message_handler_dict.get(msg_type)
        where = {"worker": self.rank, "sender": msg_params.get_sender_id(), "round": msg_params.round_index}
        if handler is None:
            known = ", ".join(map(repr, [*self.message_handler_dict, *self.com_manager.collected])) or "none"
            raise BadMessage(
                "unknown_message_type",
                f"A message of type {msg_type!r} came; known here: {known}",
                fix="Register a handler for it in register_message_receive_handlers.",
                where=where,
            )
        try:
            handler(msg_params)
        except BaseException as error:
            error.add_note(f"In the handler of message type {msg_type!r} ({where}).")
            raise

    def receive_departure(self, departure: Departure) -> None:
        if departure.reason is not None:
            self.peer_lost(departure.rank, departure.reason)


ClientManager = WorkerManager
ServerManager = WorkerManager
FedMLCommManager = WorkerManager
