"""Where the time of rounds went, against sums made by hand."""

import pytest

from fedn.protocol.rest import RoundView, SessionView, Spread, round_statistics, session_statistics
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, RoundKind, RoundState
from fedn.protocol.tasks import RoundName, UpdateMetadata


def said(client: str, index: int, **fields: object) -> UpdateMetadata:
    name = RoundName(session="s", index=index, attempt=0, epoch=1)
    return UpdateMetadata(task_id="t", client=client, round=name, **fields)


def entry(client: str, sent_at: float, busy_ms: float, told: UpdateMetadata | None, **fields: object) -> LedgerEntry:
    changes = {"state": LedgerState.UPDATED if told else LedgerState.FAILED, "updated_at": sent_at + busy_ms / 1e3}
    return LedgerEntry(
        client=client,
        combiner="c1",
        task_id=f"t/{client}",
        metadata=told,
        sent_at=sent_at,
        busy_ms=busy_ms,
        **(changes | fields),
    )


def round_view(index: int, *ledger: LedgerEntry, kind: RoundKind = RoundKind.TRAIN, **fields: object) -> RoundView:
    updated = [one.client for one in ledger if one.state is LedgerState.UPDATED]
    parts = tuple(Contribution(client=one, update_id="u", num_examples=10, weight=10.0) for one in updated)
    model = CombinerModel(combiner="c1", model_id="m", weight=10.0 * len(parts), contributions=parts, fold_ms=3.0)
    given = {
        "cohort": tuple(one.client for one in ledger if one.task_id),
        "combiner_models": (model,) if kind is RoundKind.TRAIN else (),
        "base_model_id": f"model-{index}",
        "times_ms": {"waiting": 1000.0, "training": 400.0, "aggregation": 5.0, "commit": 7.0},
        "started_at": 100.0 + index,
        "ended_at": 102.0 + index,
        "state": RoundState.COMMITTED,
    }
    return RoundView(session="s", index=index, attempt=1, epoch=1, kind=kind, ledger=ledger, **(given | fields))


def session(**fields: object) -> SessionView:
    given = {"id": "s", "name": "s", "state": "finished", "plan": {}, "rounds_done": 2, "rounds": 2, "created_at": 99.0}
    return SessionView(**(given | fields))


FIRST = round_view(
    0,
    entry("fast", 101.010, 200, said("fast", 0, num_steps=5, train_ms=150, validation={"acc": 0.5}, validate_ms=20)),
    entry("slow", 101.030, 400, said("slow", 0, num_steps=9, train_ms=350), updated_at=101.5),
    entry("broken", 101.020, 10, None),
    LedgerEntry(client="spare", combiner="c1", state=LedgerState.NOT_SELECTED),
)


def test_a_rounds_parts_follow_from_its_ledger() -> None:
    found = round_statistics(FIRST)
    assert [one.client for one in found.clients] == ["fast", "slow", "broken"]
    assert (found.index, found.attempts, found.cohort, found.updates) == (0, 2, 3, 2)
    assert found.started_at_ms == 100_000 and found.round_ms == 2000
    assert found.dispatch_ms == pytest.approx(30)
    assert (found.waiting_ms, found.training_ms, found.aggregation_ms, found.commit_ms) == (1000, 400, 5, 7)
    assert found.train_ms == Spread(least=150, mean=250, most=350)
    assert found.validate_ms == Spread(least=20, mean=20, most=20)
    assert [(part.combiner, part.updates, part.fold_ms) for part in found.combiners] == [("c1", 2, 3.0)]


def test_a_clients_times_follow_each_other() -> None:
    fast, slow, broken = round_statistics(FIRST).clients
    assert fast.sent_at_ms == pytest.approx(101_010) and fast.answered_at_ms == pytest.approx(101_210)
    assert (fast.dispatch_ms, slow.dispatch_ms) == pytest.approx((10, 30))
    # The last one answers at 101.430.
    assert (fast.idle_ms, slow.idle_ms, broken.idle_ms) == pytest.approx((220, 0, 400))
    assert (fast.upload_ms, slow.upload_ms) == pytest.approx((0, 70), abs=1e-6)
    assert (fast.share, slow.share, broken.share) == (0.5, 0.5, 0.0)
    assert (broken.task_ms, broken.num_steps, broken.metrics) == (0.0, 0, {})


def test_a_task_that_is_open_has_no_answer_yet() -> None:
    told = LedgerEntry(client="a", combiner="c1", task_id="t/a", state=LedgerState.TRAINING, sent_at=101.0)
    asked = LedgerEntry(client="b", combiner="c1", task_id="t/b", state=LedgerState.SELECTED)
    found = round_statistics(round_view(0, told, asked, state=RoundState.RUNNING, ended_at=None))
    assert found.round_ms is None and found.idle_ms is None
    assert (found.clients[0].busy_ms, found.clients[0].dispatch_ms) == (None, 0.0)
    assert (found.clients[1].sent_at_ms, found.clients[1].dispatch_ms) == (None, None)
    assert found.dispatch_ms == 0.0


def test_n_rounds_have_n_aggregations_and_n_evaluations() -> None:
    def trained(index: int) -> RoundView:
        told = said("a", index, validation={"acc": index / 10}, num_validation_examples=4, train_ms=1.0)
        watched = said("eyes", index, metrics={"acc": 1.0}, num_validation_examples=4)
        return round_view(index, entry("a", 101.0, 5, told), entry("eyes", 101.0, 5, watched), validators=("eyes",))

    last = entry("a", 104.0, 5, said("a", 2, metrics={"acc": 0.9}, num_examples=4))
    rounds = [trained(0), trained(1), round_view(2, last, kind=RoundKind.VALIDATE)]
    found = session_statistics(session(), rounds)
    assert (found.rounds_asked, found.aggregations, found.evaluations) == (2, 2, 2)
    seen = [(one.made_in_round, one.evaluated_in_round, one.clients, one.metrics["acc"]) for one in found.models]
    assert seen == [(None, 0, 2, 0.5), (0, 1, 2, 0.55), (1, 2, 1, 0.9)]
    assert [one.model_id for one in found.models] == ["model-0", "model-1", "model-2"]
    assert all(not one.clients for one in found.rounds)
    totals = {one.client: (one.rounds, one.updates, one.train_ms) for one in found.clients}
    assert totals == {"a": (3, 2, 2.0), "eyes": (2, 2, 0.0)}


def test_a_round_that_failed_makes_no_model_and_evaluates_none() -> None:
    told = said("a", 0, validation={"acc": 0.1}, num_validation_examples=4)
    failed = round_view(0, entry("a", 101.0, 5, told), state=RoundState.FAILED)
    found = session_statistics(session(state="failed"), [failed])
    assert (found.aggregations, found.evaluations, found.models) == (0, 0, ())


def test_where_tasks_go_on_over_commits_each_client_evaluates_its_own_base() -> None:
    def told(client: str, index: int, base: int, accuracy: float) -> LedgerEntry:
        metadata = said(client, index, base_model_id=f"model-{base}", validation={"acc": accuracy}, train_ms=1.0)
        return entry(client, 101.0, 5, metadata, base_index=base)

    rounds = [
        round_view(0, told("a", 0, 0, 0.1)),
        round_view(1, told("a", 1, 1, 0.2)),
        round_view(2, told("slow", 2, 0, 0.1), told("a", 2, 2, 0.3)),
    ]
    found = session_statistics(session(rounds=3), rounds)
    seen = [(one.made_in_round, one.evaluated_in_round, one.model_id) for one in found.models]
    assert seen == [(None, 0, "model-0"), (0, 1, "model-1"), (None, 2, "model-0"), (1, 2, "model-2")]
    assert found.evaluations == 2
    # Nobody waits there for the slowest.
    assert all(one.idle_ms is None for view in rounds for one in round_statistics(view).clients)
