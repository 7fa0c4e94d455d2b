"""Workers as threads of one process: for experiments, and for tests without any network."""

from collections.abc import Mapping
from typing import Self

from fedn.models.digest import Buffer
from fedn.protocol.errors import InvalidInput
from fedn.workers.backends.base import DEFAULT_STALL_S, Arrival, Backend, Departure
from fedn.workers.backends.mailbox import MAX_BYTES, MAX_FRAMES, Mailbox, finished


class InProcess(Backend):
    """Start them with fedn.workers.run_workers: they are threads of one process."""

    def __init__(self, network: "InProcessNetwork", rank: int) -> None:
        self._network = network
        self.rank = rank
        self.size = network.size

    @classmethod
    def attach(cls, environment: Mapping[str, str]) -> Self:
        raise InvalidInput(
            "no_worker_backend",
            "A worker in a process of its own cannot be attached in-process",
            fix="Start workers with fedn.workers.run_workers, or processes over the back end local.",
        )

    def send(self, receiver: int, frame: Buffer) -> None:
        self._network.deliver(self.rank, receiver, frame)

    def receive(self, timeout_s: float | None) -> Arrival | Departure | None:
        return self._network.mailboxes[self.rank].take(timeout_s)

    def close(self, reason: str | None = None) -> None:
        self._network.leave(self.rank, reason)


class InProcessNetwork:
    """The mailboxes of all workers of one run.

    Args:
        size: number of workers.
        stall_s: see `Backend.send`.
        max_frames, max_bytes: of what waits from one worker to another.
    """

    def __init__(
        self, size: int, *, stall_s: float = DEFAULT_STALL_S, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.size = size
        self._stall_s = stall_s
        self.mailboxes = [Mailbox(rank, size, max_frames=max_frames, max_bytes=max_bytes) for rank in range(size)]

    def attach(self, rank: int) -> InProcess:
        """The connection of worker `rank`."""
        return InProcess(self, rank)

    def deliver(self, sender: int, receiver: int, frame: Buffer) -> None:
        if not 0 <= receiver < self.size:
            raise no_such_worker(receiver, self.size)
        if self.mailboxes[sender].closed:
            raise finished(sender)
        self.mailboxes[receiver].put(sender, frame, self._stall_s)

    def leave(self, rank: int, reason: str | None) -> None:
        if self.mailboxes[rank].close():
            for other, mailbox in enumerate(self.mailboxes):
                if other != rank:
                    mailbox.depart(rank, reason)


def no_such_worker(rank: int, size: int) -> InvalidInput:
    """The error for who sends to a rank that does not exist."""
    return InvalidInput(
        "no_such_worker", f"There is no worker {rank}: there are the workers 0 to {size - 1}", where={"worker": rank}
    )
