"""A worker whose program goes through rounds from top to bottom, instead of reacting to messages."""

import abc
from collections.abc import Iterable
from typing import Any, ClassVar

from fedn.workers.backends import Backend
from fedn.workers.errors import BadMessage
from fedn.workers.manager import DEFAULT_TIMEOUT_S, WorkerManager
from fedn.workers.message import Message, MessageType


class RoundWorker(WorkerManager, abc.ABC):
    """Subclass it, name in `COLLECTED` what you wait for, and write `work`.

    Args:
        comm: the connection; None: the one that this thread or process was launched with.
        timeout_s: how long a round may wait for the others, in seconds.
    """

    COLLECTED: ClassVar[tuple[MessageType, ...]] = ()
    """Types of messages that wait, each in its round, for `wait_for`."""

    def __init__(self, comm: Backend | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        super().__init__(comm=comm)
        self.timeout_s = timeout_s
        for kind in self.COLLECTED:
            self.collect_by_round(kind)

    @abc.abstractmethod
    def work(self) -> Any:
        """The program of this worker; what it returns, `run` returns."""

    def run(self) -> Any:
        """Runs `work`, then ends this worker; the others hear why, where it fails."""
        try:
            result = self.work()
        except BaseException as error:
            self.com_manager.close(f"{type(error).__name__}: {error}")
            raise
        self.finish()
        return result

    def tell(self, receivers: Iterable[int], kind: MessageType, round_index: int, **params: Any) -> None:
        """Sends each of them a message of this round with these parameters."""
        for receiver in receivers:
            self.send_message(new_message(self, receiver, kind, round_index, params))


def round_of(message: Message) -> int:
    """The round that a message belongs to. BadMessage (`no_round`) where it belongs to none."""
    if message.round_index is None:
        raise BadMessage("no_round", f"{message!r} belongs to no round", fix="Set round_index.")
    return message.round_index


def new_message(
    worker: WorkerManager, receiver: int, kind: MessageType, round_index: int, params: dict[str, Any]
) -> Message:
    """A message of a round, from this worker."""
    message = Message(kind, worker.get_sender_id(), receiver, round_index=round_index)
    for key, value in params.items():
        message.add_params(key, value)
    return message
