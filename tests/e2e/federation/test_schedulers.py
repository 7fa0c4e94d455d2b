"""Real processes and a slow client: the schedulers let the fast one do more, or go on without waiting."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.federation import Federation, wait_for
from tests.support.learners import PacedLearner

FAST, SLOW = "client-1", "client-2"
OWN_STEPS = 4
"""Of an epoch of the PacedLearner."""
PACES_MS = {FAST: 2, SLOW: 150}
"""Of a step. What the fast client takes longer on a busy machine is to stay far below the slow one's."""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("schedulers"), combiners=2, clients=0) as running:
        for client, pace_ms in PACES_MS.items():
            running.data_of(client).mkdir(parents=True)
            set_pace(running, client, pace_ms)
            running.add_client(client, learner=PacedLearner)
        running.wait_attached(2)
        running.seed()
        yield running


def set_pace(federation: Federation, client: str, pace_ms: int) -> None:
    folder: Path = federation.data_of(client)
    (folder / "ms_per_step").write_text(str(pace_ms))


def steps(federation: Federation, session: str, index: int) -> dict[str, int]:
    """Client to the steps of its update that counted in a round."""
    return {
        entry.client: entry.metadata.num_steps
        for entry in federation.api.round(session, index).ledger
        if entry.state == "updated" and entry.metadata is not None
    }


def test_semi_synchronous_fills_the_fast_clients_waiting_with_steps(federation: Federation) -> None:
    scheduler = {"name": "semi_synchronous", "options": {"lambda": 0.5}}
    set_pace(federation, SLOW, 4 * PACES_MS[SLOW])
    done = federation.run(rounds=3, clients_required=2, scheduler=scheduler, validate=False)
    set_pace(federation, SLOW, PACES_MS[SLOW])
    assert (done.state, done.rounds_done) == ("finished", 3), done.error
    assert steps(federation, done.id, 0) == {FAST: OWN_STEPS, SLOW: OWN_STEPS}
    for index in (1, 2):
        view, before = federation.api.round(done.id, index), federation.api.round(done.id, index - 1)
        said = {entry.client: entry.metadata for entry in before.ledger if entry.metadata is not None}
        window = 0.5 * max(metadata.ms_per_epoch for metadata in said.values())
        expected = {client: math.ceil(window / metadata.ms_per_step) for client, metadata in said.items()}
        assert view.step_budgets is not None and view.step_budgets.slowest == SLOW
        assert view.step_budgets.steps == steps(federation, done.id, index) == expected
        assert expected[SLOW] == OWN_STEPS // 2 and expected[FAST] > OWN_STEPS


def test_asynchronous_passes_the_slow_client_and_counts_it_later(federation: Federation) -> None:
    federation.hold(SLOW)
    scheduler = {"name": "asynchronous", "options": {"max_staleness": 1000}}
    session = federation.api.start_session({"rounds": 40, "scheduler": scheduler, "validate": False}).id
    wait_for(lambda: federation.api.session(session).rounds_done >= 3, "three commits without the slow client")
    federation.release(SLOW)
    done = federation.wait_ended(session)
    assert (done.state, done.rounds_done) == ("finished", 40), done.error
    contributions = []
    for index in range(40):
        view = federation.api.round(session, index)
        told = {one.client: one for one in view.ledger if one.state == "updated"}
        for model in view.combiner_models:
            for part in model.contributions:
                one = told.pop(part.client)
                assert one.base_index == model.base_index and one.staleness == index - model.base_index
                assert one.weight == pytest.approx(part.weight * (1 + one.staleness) ** -0.5)
                contributions.append((part.client, one.staleness))
        assert not told and view.combiner_models
    assert sum(model.session == session for model in federation.api.models()) == 40
    federation.api.verify_trail()
    slow = [staleness for client, staleness in contributions if client == SLOW]
    assert slow and max(slow) >= 3
    assert len(contributions) - len(slow) > len(slow)


def test_an_asynchronous_session_survives_a_kill_of_the_reducer(federation: Federation) -> None:
    federation.hold(SLOW)
    scheduler = {"name": "asynchronous", "options": {"max_staleness": 1000}}
    session = federation.api.start_session({"rounds": 30, "scheduler": scheduler, "validate": False}).id
    wait_for(lambda: federation.api.session(session).rounds_done >= 2, "two commits without the slow client")
    before = len(federation.trainings(SLOW))
    federation.processes["reducer"].kill()
    federation.release(SLOW)
    federation.processes["reducer"].start()
    done = federation.wait_ended(session)
    assert (done.state, done.rounds_done) == ("finished", 30), done.error
    counted = [
        (part.client, model.base_index)
        for index in range(30)
        for model in federation.api.round(session, index).combiner_models
        for part in model.contributions
    ]
    # Each update once; the slow client's too, whose training went on while the reducer was away.
    assert len(set(counted)) == len(counted) >= 30
    assert (SLOW, 0) in counted
    assert sum(one["round"] == 0 for one in federation.trainings(SLOW)[before - 1 :]) == 1
    federation.api.verify_trail()
