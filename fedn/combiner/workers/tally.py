"""What went over each worker's stream of one group, and which workers the reducer has to be told of.

Counts only grow while the group lasts. A report has them as they are, so that one which is lost, or comes twice, does
no harm. Nothing is decided by them.
"""

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice

from fedn.combiner.workers.pair import Spooled
from fedn.protocol.rest import WorkerGroupReport, WorkerReport, WorkerTraffic


@dataclass(slots=True)
class Counts:
    """Of one worker."""

    sent_messages: int = 0
    """That its home took in, as the next one."""
    sent_bytes: int = 0
    received_messages: int = 0
    """That it has acknowledged, as the next one."""
    received_bytes: int = 0
    repeated_bytes: int = 0
    """That came from it again, or went to it again, after its stream or its home had broken."""
    spooled_bytes: int = 0
    """That wait for it now."""
    heard_at: float = 0.0
    """Its last message, Unix time in seconds; 0: none has come."""


class Tally:
    """Counts by rank. Belongs to the loop of its group."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(8)
        """Counts of another one begin again at 0."""
        self._counts: dict[int, Counts] = {}
        self._changed: dict[int, None] = {}

    def heard(self, rank: int) -> None:
        """It has said something."""
        self._of(rank).heard_at = time.time()

    def changed(self, rank: int) -> None:
        """It came or went."""
        self._of(rank)

    def spooled(self, sender: int, receiver: int, spooled: Spooled) -> None:
        """A chunk was taken in."""
        counts = self._of(sender)
        counts.sent_messages += spooled.is_last
        counts.sent_bytes += spooled.data_bytes
        self._of(receiver).spooled_bytes += spooled.data_bytes

    def taken(self, receiver: int, taken: Iterable[Spooled]) -> None:
        """It has acknowledged these."""
        counts = self._of(receiver)
        for spooled in taken:
            counts.received_messages += spooled.is_last
            counts.received_bytes += spooled.data_bytes
            counts.spooled_bytes -= spooled.data_bytes

    def dropped(self, receiver: int) -> None:
        """It is gone: nothing waits for it."""
        self._of(receiver).spooled_bytes = 0

    def repeated(self, rank: int, size_bytes: int) -> None:
        """So much came from it, or went to it, that had before."""
        self._of(rank).repeated_bytes += size_bytes

    def report(self, group: str, limit: int, state_of: Callable[[int], WorkerTraffic]) -> WorkerGroupReport | None:
        """At most so many workers that have changed since they were told of; those first that wait longest. None: none.

        Args:
            state_of: rank to what it is doing.
        """
        ranks = list(islice(self._changed, limit))
        if not ranks:
            return None
        for rank in ranks:
            del self._changed[rank]
        workers = tuple(
            WorkerReport(rank=rank, **(state_of(rank).model_dump() | asdict(self._counts[rank]))) for rank in ranks
        )
        return WorkerGroupReport(group=group, run=self.run, workers=workers)

    def put_back(self, ranks: Iterable[int] | None = None) -> None:
        """They, or all, have not been told of after all."""
        for rank in self._counts if ranks is None else ranks:
            self._changed[rank] = None

    def _of(self, rank: int) -> Counts:
        self._changed[rank] = None
        if rank not in self._counts:
            self._counts[rank] = Counts()
        return self._counts[rank]
