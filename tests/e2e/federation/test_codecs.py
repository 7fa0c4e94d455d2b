"""Sessions with codecs over the real tiers: what comes out, what goes over the wire, and that it repeats to the bit."""

import numpy as np
import pytest

from fedn.plan.chains import check_chains
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError
from tests.support.federation import Federation, wait_for
from tests.support.learners import LARGE_SIZE as SIZE
from tests.support.learners import LargeLearner, NoisyLargeLearner

NAMES = ["client-1", "client-2", "client-3"]
ROUNDS = 3


def _metadata(federation, session, index):
    ledger = federation.api.round(session.id, index).ledger
    return [(entry.size_bytes, entry.metadata) for entry in ledger if entry.metadata is not None]


def test_sessions_with_every_chain_give_the_model_and_send_fewer_bytes(tmp_path):
    chains = [
        # (update_chain, model_chain, share of the bytes up, of the bytes down, error of a weight after three rounds)
        (["delta"], [], 1.0, 1.0, 1e-6),
        (["bfloat16"], ["bfloat16"], 0.5, 0.5, 0.1),
        (["delta", "bfloat16"], ["bfloat16"], 0.5, 0.5, 0.02),
        (["delta", "float16", "zstd"], ["zstd"], 0.2, 1.0, 1e-3),
        (["delta", "int8"], ["float16"], 0.25, 0.5, 5e-3),
        (["int8"], ["int8"], 0.25, 0.25, 0.2),
    ]
    with Federation(tmp_path, clients=0) as federation:
        for name in NAMES:
            federation.add_client(name, learner=LargeLearner)
        federation.wait_attached(3)
        federation.seed(LargeLearner)
        for update_chain, model_chain, up, down, error in chains:
            before = federation.weights(federation.api.status().model_id)
            session = federation.run(
                rounds=ROUNDS, clients_required=3, update_chain=update_chain, model_chain=model_chain
            )
            assert session.state == "finished", session.error
            after = federation.weights(session.model_id)
            assert [array.dtype for array in after.values()] == [array.dtype for array in before.values()]
            np.testing.assert_allclose(after["0"], before["0"] + ROUNDS, atol=error)
            np.testing.assert_array_equal(after["1"], before["1"] + ROUNDS)
            plan = check_chains(SessionPlan(update_chain=update_chain, model_chain=model_chain))
            for size_bytes, metadata in _metadata(federation, session, 1):
                assert metadata.update_chain == plan.update_chain
                assert metadata.model_chain == plan.model_chain
                assert metadata.form == ("delta" if "delta" in update_chain else "model")
                assert metadata.decoded_bytes == pytest.approx(4 * SIZE, rel=0.01)
                assert size_bytes <= 1.01 * up * 4 * SIZE
                assert metadata.model_bytes <= 1.01 * down * 4 * SIZE
        with pytest.raises(FednError, match="begin with delta"):
            federation.api.start_session({"update_chain": ["topk"]})


def test_deterministic_sessions_with_error_feedback_repeat_to_the_bit_whatever_breaks(tmp_path):
    plan = {
        "rounds": 4,
        "deterministic": True,
        "clients_required": 3,
        "seed": 11,
        "update_chain": ["delta", {"name": "topk", "options": {"fraction": 0.02}}, "int8", "zstd"],
        "model_chain": ["bfloat16"],
    }
    with Federation(tmp_path, clients=0) as federation:
        for name in NAMES:
            federation.add_client(name, learner=NoisyLargeLearner)
        federation.wait_attached(3)
        seed = federation.seed(NoisyLargeLearner)
        first = federation.run(**plan)
        assert first.state == "finished", first.error

        # Again; a client is killed while it trains in the third round, and comes back: what it kept is on its disk.
        federation.hold("client-2", from_round=2)
        again = federation.api.start_session({**plan, "model_id": seed})
        third = {"session": again.id, "round": 2}
        wait_for(lambda: third in federation.trainings("client-2"), "the third training begins")
        federation.processes["client-2"].kill()
        federation.processes["client-2"].start()
        wait_for(lambda: federation.trainings("client-2").count(third) == 2, "the third training begins anew")
        federation.release("client-2")
        again = federation.wait_ended(again.id)
        assert again.state == "finished", again.error
        models = [
            [one.model_id for one in federation.api.rounds(s.id) if str(one.kind) == "train"] for s in (first, again)
        ]
        assert models[0] == models[1]
        assert federation.trainings("client-2").count(third) == 2

        without = federation.run(
            **{
                **plan,
                "update_chain": ["delta", {"name": "topk", "options": {"fraction": 0.02, "error_feedback": False}}],
            },
            model_id=seed,
        )
        assert without.model_id != first.model_id
