"""One attempt at a round: who counts, when it is over, and what the ledger says."""

import asyncio

import pytest

from fedn.protocol.errors import FednError
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, RoundState
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec
from fedn.reducer.engine.attempt import RoundAttempt
from fedn.reducer.engine.part import PartLost, PartResult
from fedn.reducer.engine.records import RoundRecord
from fedn.scheduling.synchronous import Synchronous

NAME = RoundName(session="s", index=0, attempt=0, epoch=1)


class ScriptedPart:
    """A combiner's part whose clients end as told, once it is let go."""

    def __init__(self, attempt, combiner, states, *, lost=None, uncounted=(), modelless=False):
        self._attempt = attempt
        self._combiner = combiner
        self._states = states
        self._lost = lost
        self._uncounted = uncounted
        self._modelless = modelless
        self.go = asyncio.Event()
        self.go.set()
        self.closed: list[str] = []
        self.cancelled: list[str] = []

    async def run(self):
        await self.go.wait()
        for client, state in self._states.items():
            self._attempt.note(LedgerEntry(client=client, combiner=self._combiner, state=state))
        if self._lost:
            raise self._lost
        if self._modelless:
            model = CombinerModel(combiner=self._combiner, model_id="", weight=0.0, contributions=())
            return PartResult(model, None, {}, "failed: the mean is not finite")
        counted = [c for c, state in self._states.items() if state is LedgerState.UPDATED and c not in self._uncounted]
        parts = tuple(Contribution(client=c, update_id="u", num_examples=1, weight=1.0) for c in counted)
        model = CombinerModel(combiner=self._combiner, model_id="m", weight=float(len(parts)), contributions=parts)
        return PartResult(model, bytearray(b"tensors"), {})

    def close(self, reason):
        self.closed.append(reason)

    def cancel(self, reason):
        self.cancelled.append(reason)


def record(assignments):
    tasks = {
        combiner: tuple(TaskSpec(task_id=f"t/{client}", client=client, kind=TaskKind.TRAIN) for client in clients)
        for combiner, clients in assignments.items()
    }
    ledger = [
        LedgerEntry(client=client, combiner=combiner, state=LedgerState.SELECTED)
        for combiner, clients in assignments.items()
        for client in clients
    ]
    return RoundRecord(name=NAME, state=RoundState.RUNNING, assignments=tasks, ledger=tuple(ledger), started_at=0.0)


def run(parts_of, *, required=1, assignments=None):
    """parts_of(attempt) -> {combiner: ScriptedPart}; returns (result, parts, ledger changes)."""

    async def scenario():
        changes: list[LedgerEntry] = []
        attempt = RoundAttempt(
            record(assignments or {"c1": ["a", "b"], "c2": ["x"]}),
            Synchronous(),
            required=required,
            counts=TaskKind.TRAIN,
            on_ledger=changes.append,
        )
        parts = parts_of(attempt)
        async with asyncio.timeout(60):
            result = await attempt.run(parts)
        return result, parts, changes

    return asyncio.run(scenario())


def states(result):
    return {entry.client: str(entry.state) for entry in result.ledger}


UPDATED, FAILED = LedgerState.UPDATED, LedgerState.FAILED


def test_all_in_commits_with_all_parts():
    result, _, changes = run(
        lambda attempt: {
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}),
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED, "b": UPDATED}),
        },
        required=3,
    )
    assert result.retry_because is None
    assert [part.model.combiner for part in result.parts] == ["c1", "c2"]
    assert states(result) == {"a": "updated", "b": "updated", "x": "updated"}
    assert len(changes) == 3


def test_a_failed_client_does_not_stop_a_round_with_quorum():
    result, _, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED, "b": FAILED}),
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}),
        },
        required=2,
    )
    assert result.retry_because is None
    assert states(result)["b"] == "failed"


def test_without_quorum_it_is_tried_again_and_the_combiners_are_told():
    result, parts, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": FAILED, "b": FAILED}),
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}),
        },
        required=2,
    )
    assert result.retry_because.code == "quorum_missed"
    assert not result.parts
    assert parts["c1"].cancelled
    assert parts["c2"].cancelled


def test_a_lost_combiner_is_left_out_where_the_quorum_holds():
    result, _, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED, "b": UPDATED}),
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}, lost=PartLost("combiner_lost", "it died")),
        },
        required=2,
    )
    assert [part.model.combiner for part in result.parts] == ["c1"]
    assert states(result)["x"] == "disconnected"
    reason = next(entry.reason for entry in result.ledger if entry.client == "x")
    assert reason.code == "combiner_lost"


def test_a_lost_combiner_whose_clients_are_needed_makes_the_round_be_tried_again():
    result, _, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED, "b": UPDATED}),
            "c2": ScriptedPart(attempt, "c2", {}, lost=PartLost("combiner_lost", "it died")),
        },
        required=3,
    )
    assert result.retry_because.code == "quorum_missed"
    assert "it died" in result.retry_because.message


def test_an_update_that_the_combiner_model_leaves_out_does_not_count():
    result, _, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED, "b": UPDATED}, uncounted=("b",)),
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}),
        },
        required=3,
    )
    assert states(result)["b"] == "refused"
    assert result.retry_because.code == "quorum_missed"


def test_updates_of_which_no_combiner_model_came_do_not_count():
    result, _, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED, "b": UPDATED}, modelless=True),
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}),
        },
        required=2,
    )
    assert states(result)["a"] == states(result)["b"] == "refused"
    assert "not finite" in next(entry.reason.message for entry in result.ledger if entry.client == "a")
    assert result.retry_because.code == "quorum_missed"


def test_a_client_of_which_its_combiner_never_spoke_is_late():
    result, _, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED}),
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}),
        }
    )
    assert states(result) == {"a": "updated", "b": "late", "x": "updated"}


def test_a_combiner_has_no_say_about_another_combiners_client():
    result, _, _ = run(
        lambda attempt: {
            "c1": ScriptedPart(attempt, "c1", {"a": UPDATED, "b": UPDATED, "x": FAILED}),
            "c2": ScriptedPart(attempt, "c2", {"x": UPDATED}),
        }
    )
    assert states(result)["x"] == "updated"


def test_a_fault_of_ours_is_not_taken_for_a_lost_combiner():
    class Broken(ScriptedPart):
        async def run(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(lambda attempt: {"c1": Broken(attempt, "c1", {}), "c2": ScriptedPart(attempt, "c2", {"x": UPDATED})})


def test_cancelling_the_attempt_tells_every_combiner():
    async def scenario():
        attempt = RoundAttempt(
            record({"c1": ["a"]}), Synchronous(), required=1, counts=TaskKind.TRAIN, on_ledger=lambda entry: None
        )
        part = ScriptedPart(attempt, "c1", {"a": UPDATED})
        part.go.clear()
        running = asyncio.create_task(attempt.run({"c1": part}))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert part.cancelled

    asyncio.run(scenario())
    assert issubclass(PartLost, FednError)
