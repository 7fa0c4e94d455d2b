"""SCAFFOLD with real processes: the sites' control variates are on their disks, and outlive their processes."""

import numpy as np
import pytest

from tests.support.federation import Federation, wait_for
from tests.support.learners import DescendingLearner

NAMES = ["client-1", "client-2", "client-3"]
OPTIMUM = sum(number**3 for number in (1, 2, 3)) / 6
DRIFTED = sum((1 - (1 - 0.1 * number) ** 5) * number**2 for number in (1, 2, 3)) / sum(
    1 - (1 - 0.1 * number) ** 5 for number in (1, 2, 3)
)
"""Where FedAvg of five steps stays."""


def test_sites_that_differ_find_the_optimum_although_one_is_killed(tmp_path):
    with Federation(tmp_path, clients=0) as federation:
        for name in NAMES:
            federation.add_client(name, learner=DescendingLearner)
        federation.wait_attached(3)
        seed = federation.seed(DescendingLearner)
        plain = federation.run(rounds=30, clients_required=3, validate=False)
        np.testing.assert_allclose(federation.weights(plain.model_id)["0"], DRIFTED, atol=1e-3)
        assert pytest.approx(OPTIMUM, abs=0.2) != DRIFTED

        plan = {"rounds": 30, "clients_required": 3, "rule": "scaffold", "model_id": seed, "validate": False}
        session = federation.api.start_session({**plan, "parameters": {"pause_s": 0.1}})
        wait_for(lambda: {"session": session.id, "round": 3} in federation.trainings("client-2"), "the fourth training")
        federation.processes["client-2"].kill()
        federation.processes["client-2"].start()
        session = federation.wait_ended(session.id)
        assert session.state == "finished", session.error
        np.testing.assert_allclose(federation.weights(session.model_id)["0"], OPTIMUM, atol=5e-3)
