"""What is written down of a round: complete, and in documents that every state store takes."""

import json
import math

from fedn.protocol.rest import as_json
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, Reason, RoundState
from fedn.protocol.tasks import RoundName, TaskKind, TaskSpec, UpdateMetadata
from fedn.protocol.trail import EntryKind, TrailEntry
from fedn.reducer.engine.records import LEDGERS, ROUNDS, RoundRecord, load_round, round_documents, save_round
from fedn.reducer.engine.round_run import settled_ledger
from fedn.stores.documents import MAX_DOCUMENT_BYTES, to_json
from fedn.stores.sqlite import SqliteStateStore

NAME = RoundName(session="s", index=3, attempt=0, epoch=1)
MODEL = "blake3:" + "a" * 64
UPDATE = "blake3:" + "b" * 64


def large_record(clients):
    """A round over two combiners as it is at its end, every client with metrics and a budget of its own."""
    names = [f"hospital-{number:05d}" for number in range(clients)]
    tasks, ledger, contributions = {"c1": [], "c2": []}, [], {"c1": [], "c2": []}
    for number, name in enumerate(names):
        combiner = f"c{number % 2 + 1}"
        task = TaskSpec(
            task_id=f"s/3/train/{'a' * 12}/{name}",
            client=name,
            kind=TaskKind.TRAIN,
            model_id=MODEL,
            validate_incoming=number % 3 == 0,
            step_budget=number + 1,
            parameters={"note": "x" * 1000, "layers": [1, 2, 3]},
        )
        metadata = UpdateMetadata(
            task_id=task.task_id, client=name, round=NAME, base_model_id=MODEL, num_examples=7, metrics={"loss": 0.5}
        )
        tasks[combiner].append(task)
        ledger.append(
            LedgerEntry(
                client=name,
                combiner=combiner,
                task_id=task.task_id,
                state=LedgerState.UPDATED,
                update_id=UPDATE,
                metadata=metadata,
            )
        )
        contributions[combiner].append(Contribution(client=name, update_id=UPDATE, num_examples=7, weight=7.0))
    return RoundRecord(
        name=NAME,
        state=RoundState.COMMITTED,
        base_model_id=MODEL,
        cohort=tuple(names),
        assignments={combiner: tuple(given) for combiner, given in tasks.items()},
        ledger=tuple(ledger),
        combiner_models=tuple(
            CombinerModel(combiner=combiner, model_id=MODEL, weight=1.0, contributions=tuple(parts))
            for combiner, parts in contributions.items()
        ),
        started_at=1.0,
    )


def test_a_round_of_ten_thousand_clients_is_kept_in_documents_that_fit(tmp_path):
    state = SqliteStateStore(tmp_path / "state.db")
    record = large_record(10_000)
    save_round(state, record)
    documents = state.find(ROUNDS) + state.find(LEDGERS)
    assert len(documents) > 2
    assert max(len(to_json(document)) for document in documents) < MAX_DOCUMENT_BYTES
    found = load_round(state, "s", 3)
    assert found.model_dump() == record.model_dump()
    # A smaller attempt at the same round does not show what is left of the larger one.
    save_round(state, large_record(2))
    assert len(load_round(state, "s", 3).ledger) == 2
    state.close()


def test_an_open_ledger_is_closed_by_what_the_trail_says():
    record = large_record(3)
    states = (LedgerState.TRAINING, LedgerState.SELECTED, LedgerState.FAILED)
    reason = Reason(code="task_failed", message="no data")
    ledger = tuple(
        LedgerEntry(client=e.client, combiner=e.combiner, state=state, reason=reason if state.final else None)
        for e, state in zip(record.ledger, states, strict=True)
    )

    contributor = record.combiner_models[0].contributions[:1]
    entry = TrailEntry(
        federation="f",
        index=1,
        kind=EntryKind.ROUND,
        epoch=1,
        model_id=MODEL,
        combiner_models=(record.combiner_models[0].model_copy(update={"contributions": contributor}),),
        time=5.0,
        previous="",
    )
    closed = settled_ledger(ledger, entry)
    assert [str(e.state) for e in closed] == ["updated", "late", "failed"]
    assert closed[0].update_id == UPDATE
    assert closed[1].reason.code == "no_answer"
    assert closed[2].reason == reason


def test_who_counts_by_an_earlier_update_is_not_taken_for_one_that_answered():
    record = large_record(1)
    entry = TrailEntry(
        federation="f",
        index=1,
        kind=EntryKind.ROUND,
        epoch=1,
        model_id=MODEL,
        combiner_models=record.combiner_models,
        time=5.0,
        previous="",
    )
    client = record.combiner_models[0].contributions[0].client
    for state in (LedgerState.NOT_SELECTED, LedgerState.FAILED):
        before = LedgerEntry(client=client, state=state)
        assert settled_ledger([before], entry) == (before,)


def test_what_is_written_of_a_round_is_what_its_payloads_say(tmp_path):
    record = large_record(3)
    metadata = record.ledger[0].metadata.model_copy(update={"metrics": {"loss": math.nan, 'µ "x"': math.inf}})
    diverged = record.ledger[0].model_copy(update={"metadata": metadata})
    reason = Reason(code="task_failed", message='"quoted", \\ and\nbroken ✓')
    failed = record.ledger[1].model_copy(update={"state": LedgerState.FAILED, "reason": reason})
    record = record.model_copy(update={"ledger": (diverged, failed, record.ledger[2]), "metrics": {"loss": math.inf}})
    (put,) = round_documents(record)
    document = json.loads(put.document)
    assert document["ledger"][0]["metadata"]["metrics"] == {"loss": "NaN", 'µ "x"': "Infinity"}
    assert document["metrics"] == {"loss": "Infinity"}
    said = as_json(record)
    for name in said.keys() - {"ledger", "assignments"}:
        assert document[name] == said[name]
    for entry, whole in zip(document["ledger"], said["ledger"], strict=True):
        assert (
            LedgerEntry.model_validate(entry).model_dump_json() == LedgerEntry.model_validate(whole).model_dump_json()
        )
    state = SqliteStateStore(tmp_path / "state.db")
    save_round(state, record)
    found = load_round(state, "s", 3)
    assert math.isnan(found.ledger[0].metadata.metrics["loss"])
    assert found.ledger[1:] == record.ledger[1:]
    assert found.assignments == record.assignments
    state.close()


def test_tasks_that_share_nothing_are_written_down_all_the_same(tmp_path):
    def task(client, **fields):
        return TaskSpec(task_id=f"s/3/train/{client}", client=client, kind=TaskKind.TRAIN, **fields)

    tasks = (task("a", parameters={"x": 1}), task("b", parameters={"x": 2}), task("c", step_budget=4, helper="numpy"))
    record = RoundRecord(name=NAME, state=RoundState.RUNNING, assignments={"c1": tasks}, started_at=1.0)
    state = SqliteStateStore(tmp_path / "state.db")
    save_round(state, record)
    assert load_round(state, "s", 3).assignments == {"c1": tasks}
    state.close()
