"""What the ledger says of clients whose updates of earlier rounds count, or count no longer. Pure."""

from collections.abc import Collection, Iterable, Iterator

from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason
from fedn.reducer.engine.part import PartResult

_COUNTS = "its update of an earlier round counts"
_LOST = "its update of an earlier round counts no longer: the client moved, or its combiner lost the update"


def note_earlier(
    ledger: Iterable[LedgerEntry], parts: Iterable[PartResult], trained: Collection[str]
) -> Iterator[LedgerEntry]:
    """Entries that change, of clients without an update in this round.

    Args:
        parts: of the round, whose rule goes by earlier updates.
        trained: clients with an update in an earlier round of the session.
    """
    counted = {part.client for result in parts for part in result.model.contributions}
    for entry in ledger:
        if entry.state is LedgerState.UPDATED or entry.client not in counted.union(trained):
            continue
        more = _COUNTS if entry.client in counted else _LOST
        reason = entry.reason or Reason(code="no_answer", message="the client gave no update")
        said = reason.model_copy(update={"message": f"{reason.message}; {more}"})
        yield entry.model_copy(update={"reason": said})
