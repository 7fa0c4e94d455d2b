"""Rules that go by updates of earlier rounds: whose count at which combiner, and what the ledger says of them.

Not here: the updates, which combiners keep (fedn.combiner.lineage).
"""

from collections.abc import Collection, Iterable, Iterator

from fedn.aggregation.base import Rule
from fedn.protocol.errors import InvalidInput
from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason
from fedn.protocol.tasks import TaskKind
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.part import PartResult

_COUNTS = "its update of an earlier round counts"
_LOST = "its update of an earlier round counts no longer: the client moved, or its combiner lost the update"


def members_of(rule: Rule, context: EngineContext) -> dict[str, tuple[str, ...]] | None:
    """Combiner to the clients whose earlier updates count there, also where none is asked; None where none count.

    A client is a member where it is attached, or was a moment ago: of one combiner at a time.

    Raises:
        InvalidInput: (`updates_not_kept`) a combiner keeps less of them than the rule goes by.
    """
    if not rule.lineage:
        return None
    found = context.roster.members(TaskKind.TRAIN)
    members = {combiner: tuple(found[combiner]) for combiner in context.linked() if combiner in found}
    check_kept(rule, members, context)
    return members


def check_kept(rule: Rule, combiners: Iterable[str], context: EngineContext) -> None:
    """InvalidInput (`updates_not_kept`) where one of them keeps less of clients' updates than the rule goes by."""
    for combiner in combiners if rule.lineage else ():
        connection = context.link(combiner).connection
        if connection is not None and connection.updates_kept < rule.lineage:
            raise InvalidInput(
                "updates_not_kept",
                f"the rule {rule.name} goes by {rule.lineage} earlier update(s) of each client, and the combiner keeps "
                f"{connection.updates_kept}",
                fix="Give the combiner an update store (its settings updates.kind and updates.lineage_length), or "
                "choose another rule.",
                where={"combiner": combiner},
            )


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
