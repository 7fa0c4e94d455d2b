"""Rounds over the real tiers: what the arithmetic of the whole federation must be, and what a ledger must say."""

import numpy as np
import pytest

from fedn.models.files import read_tensors
from fedn.protocol.errors import Conflict, FednError
from fedn.protocol.rounds import LedgerState
from tests.support.federation import Federation, wait_for
from tests.support.learners import FailingLearner, PoisonLearner


def states(round_view):
    return {entry.client: str(entry.state) for entry in round_view.ledger}


def test_sessions_over_two_combiners(tmp_path):
    with Federation(tmp_path) as federation:
        api = federation.api
        with pytest.raises(Conflict, match="no model to start from"):
            api.start_session({})

        # Unequal weights over an unequal spread: the two tiers must give the mean over all examples.
        for number in range(1, 6):
            (federation.data_of(f"client-{number}") / "examples").write_text(str(10**number))
        seed = federation.seed()
        session = federation.run(rounds=3, clients_required=5)
        assert (session.state, session.rounds_done) == ("finished", 3), session.error
        tensors = federation.weights(session.model_id)
        assert tensors["0"].dtype == np.float32
        np.testing.assert_allclose(tensors["0"], 3.0, rtol=1e-6)
        np.testing.assert_allclose(tensors["1"], 3.0, rtol=1e-6)

        # N rounds asked: N aggregations, N validated models besides the seed's.
        rounds = api.rounds(session.id)
        assert [(r.index, str(r.kind), str(r.state)) for r in rounds] == [
            (0, "train", "committed"),
            (1, "train", "committed"),
            (2, "train", "committed"),
            (3, "validate", "committed"),
        ]
        for one in rounds:
            assert set(states(one).values()) == {"updated"}
        assert {c.client: c.num_examples for m in rounds[0].combiner_models for c in m.contributions} == {
            f"client-{n}": 10**n for n in range(1, 6)
        }
        assert len(rounds[0].combiner_models) == 2
        entries = list(api.trail_entries())
        assert [str(e.kind) for e in entries] == ["seed", "round", "round", "round"]
        assert entries[0].model_id == seed
        validations = wait_for(
            lambda: v if len(v := api.validations(session.id)) == 20 else None, "every model is validated by all"
        )
        by_entry = {e.hash: {v.metrics["mean"] for v in validations if v.entry_hash == e.hash} for e in entries}
        assert [by_entry[e.hash] for e in entries] == [{0.0}, {1.0}, {2.0}, {3.0}]
        verified = api.verify_trail(entries[-1].hash)
        assert (verified.length, verified.head) == (4, entries[-1].hash)
        assert {len(federation.trainings(f"client-{n}")) for n in range(1, 6)} == {3}

        # A second start while one runs gets the reason; the cohort counts the federation, not a combiner.
        federation.hold(*(f"client-{n}" for n in range(1, 6)))
        running = api.start_session({"rounds": 1, "clients_requested": 2, "clients_required": 2})
        with pytest.raises(Conflict, match="running"):
            api.start_session({})
        federation.release(*(f"client-{n}" for n in range(1, 6)))
        assert federation.wait_ended(running.id).state == "finished"
        ledger = api.round(running.id, 0).ledger
        assert sum(e.state is LedgerState.UPDATED for e in ledger) == 2
        left_out = [e for e in ledger if e.state is LedgerState.NOT_SELECTED]
        assert len(left_out) == 3
        assert {e.reason.code for e in left_out} == {"not_in_cohort"}

        # Clients whose code fails or whose update is poison are named with the reason, and do not count.
        federation.add_client("failing", learner=FailingLearner)
        federation.add_client("poison", learner=PoisonLearner)
        federation.wait_attached(7)
        before = federation.weights(api.status().model_id)["0"]
        session = federation.run(rounds=1, clients_required=5)
        assert session.state == "finished"
        entries = {e.client: e for e in api.round(session.id, 0).ledger}
        assert entries["failing"].state is LedgerState.FAILED
        assert "the data of this site are damaged" in entries["failing"].reason.message
        assert entries["poison"].state is LedgerState.REFUSED
        assert entries["poison"].reason.code == "update_not_finite"
        np.testing.assert_allclose(federation.weights(session.model_id)["0"], before + 1, rtol=1e-6)
        session = federation.run(rounds=1, clients_required=7, max_attempts=2)
        assert session.state == "failed"
        assert session.error.code == "round_failed"
        assert "7 are required" in session.error.message

        # Stop and resume; roll back to an old model.
        federation.processes["failing"].stop()
        federation.processes["poison"].stop()
        federation.wait_attached(5)
        federation.hold(*(f"client-{n}" for n in range(1, 6)), from_round=1)
        session = api.start_session({"rounds": 4, "clients_required": 5})
        federation.wait_round(session.id, 1, lambda r: str(r.state) == "running")
        assert api.stop_session(session.id).state == "stopped"
        assert api.session(session.id).rounds_done == 1
        federation.release(*(f"client-{n}" for n in range(1, 6)))
        assert api.resume_session(session.id).state == "running"
        assert federation.wait_ended(session.id).rounds_done == 4
        session = federation.run(rounds=1, model_id=seed, clients_required=5)
        np.testing.assert_allclose(federation.weights(session.model_id)["0"], 1.0, rtol=1e-6)
        kinds = [str(e.kind) for e in api.trail_entries()]
        assert kinds[-2:] == ["rollback", "round"]
        with pytest.raises(FednError, match="no_such_model"):
            api.start_session({"model_id": "blake3:" + "0" * 64})
        assert api.verify_trail().length == len(kinds)


def test_a_client_makes_the_first_model_and_predicts(tmp_path):
    with Federation(tmp_path, combiners=1, clients=2) as federation:
        session = federation.run(rounds=2, seed_from_client=True)
        assert session.state == "finished", session.error
        np.testing.assert_allclose(federation.weights(session.model_id)["0"], 2.0)
        prediction = federation.api.start_predictions()
        assert federation.wait_ended(prediction.id).state == "finished"
        found = federation.api.predictions(prediction.id)
        assert sorted(one.client for one in found) == ["client-1", "client-2"]
        target = tmp_path / "predicted.safetensors"
        federation.api.download_prediction(found[1], target)
        np.testing.assert_allclose(read_tensors(target)["0"], 4.0)
        # A removed client is sent away, and gets no other combiner.
        federation.api.remove_client("client-2")
        wait_for(lambda: federation.processes["client-2"].ended, "the removed client ends")
        assert "site_forgotten" in federation.processes["client-2"].tail()
        assert [c.name for c in federation.api.clients()] == ["client-1"]
        with pytest.raises(FednError, match="no_such_prediction"):
            federation.api.download_prediction(found[1].model_copy(update={"client": "client-9"}), target)
