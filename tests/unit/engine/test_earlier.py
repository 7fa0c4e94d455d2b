"""The ledger says of each client whether what it sent in an earlier round counts."""

from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, Reason
from fedn.reducer.engine.earlier import note_earlier
from fedn.reducer.engine.part import PartResult


def entry(client: str, state: LedgerState, reason: str = "") -> LedgerEntry:
    return LedgerEntry(client=client, state=state, reason=Reason(code="why", message=reason) if reason else None)


def part(*clients: str) -> PartResult:
    counted = tuple(Contribution(client=name, update_id="u", num_examples=1, weight=1.0) for name in clients)
    return PartResult(CombinerModel(combiner="c", model_id="m", weight=1.0, contributions=counted), None, {})


def test_who_counts_without_an_update_and_who_counts_no_longer() -> None:
    ledger = [
        entry("counts", LedgerState.NOT_SELECTED, "not asked"),
        entry("late", LedgerState.LATE),
        entry("lost", LedgerState.NOT_SELECTED, "not asked"),
        entry("never", LedgerState.NOT_SELECTED, "not asked"),
        entry("new", LedgerState.UPDATED),
    ]
    changed = {e.client: e.reason for e in note_earlier(ledger, [part("counts", "new"), part("late")], {"lost", "new"})}
    assert set(changed) == {"counts", "late", "lost"}
    assert changed["counts"] == Reason(code="why", message="not asked; its update of an earlier round counts")
    assert changed["late"] is not None and changed["late"].message.endswith("its update of an earlier round counts")
    assert changed["lost"] is not None and "counts no longer" in changed["lost"].message
