"""Encrypted aggregation over the real tiers: digits over two combiners that cannot read a model, whatever is killed."""

import math
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fedn.client.seeds import task_seed
from fedn.models.files import read_tensors
from fedn.privacy.keys import create_key, write_key
from fedn.protocol.errors import FednError
from tests.support.federation import Federation, wait_for
from tests.support.learning import federated_averaging, project_learners, write_partitions

DIGITS = Path(__file__).parents[3] / "test-projects" / "digits" / "client"
CLIENTS, ROUNDS = 3, 8
PARAMETERS = {"alpha": 100.0, "epochs": 1, "seed": 3}


def flat(tensors):
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in tensors])


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Weights and metrics of FedAvg in plain Python, on the same data with the same seeds."""
    paths = write_partitions(tmp_path_factory.mktemp("reference"), CLIENTS, seed=PARAMETERS["seed"])
    with project_learners(DIGITS, "DigitsLearner", CLIENTS) as learners:
        seed = partial(task_seed, PARAMETERS["seed"])
        return federated_averaging(learners, paths, ROUNDS, PARAMETERS, seed)


def fedn(*arguments):
    done = subprocess.run([sys.executable, "-m", "fedn.cli.main", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_digits_train_as_with_fedavg_on_servers_that_see_ciphertext_only(tmp_path, reference):
    key_file = tmp_path / "federation.key"
    key = create_key(4096)
    write_key(key, key_file)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    write_partitions(tmp_path / "data", CLIENTS, seed=PARAMETERS["seed"])
    learner = ("--learner", f"{DIGITS / 'learner.py'}:DigitsLearner", "--package", "none")
    with Federation(tmp_path, combiners=2, clients=0) as federation:
        for number in range(1, CLIENTS + 1):
            federation.add_client(f"client-{number}", *learner, "--encryption-key", str(key_file), learner=None)
        federation.wait_attached(CLIENTS)
        api = federation.api
        plan = {
            "rounds": ROUNDS,
            "clients_required": CLIENTS,
            "seed_from_client": True,
            "helper": "sklearn",
            "rule": {"name": "secagg", "options": {"key_id": key.key_id}},
            "parameters": PARAMETERS,
        }
        session = api.start_session(plan)
        for victim, index in (("reducer", 1), ("c1", 4)):
            federation.wait_round(session.id, index, lambda view: str(view.state) == "committed")
            federation.processes[victim].kill()
            federation.processes[victim].start()
        session = federation.wait_ended(session.id)
        assert session.state == "finished", session.error

        # The ledger says so, and so does the trail's model; the weights of the sums are those of FedAvg.
        view = api.round(session.id, 0)
        assert {entry.metadata.key_id for entry in view.ledger} == {key.key_id}
        assert len(view.combiner_models) == 2 or len({entry.combiner for entry in view.ledger}) == 1
        model = api.model(session.model_id)
        assert model.encrypted_with == key.key_id
        assert api.verify_trail().length == ROUNDS + 1
        stored = federation.weights(session.model_id)
        assert stored["fedn.ciphertexts.0-31"].shape[1:] == (2, 4096)
        values = sum(math.prod(tensor.shape) for tensor in model.tensors)
        assert model.size_bytes <= 10 * 4 * values

        # Whoever has the key reads the model, and it is the one of FedAvg.
        encrypted, plain = tmp_path / "encrypted.safetensors", tmp_path / "plain.npz"
        api.download_model(session.model_id, encrypted)
        fedn("model", "decrypt", str(encrypted), str(plain), "--key", str(key_file))
        weights, history = reference
        # Rounds of training stretch what differs in the first by less than a millionth.
        np.testing.assert_allclose(flat(read_tensors(plain).values()), flat(weights.values()), atol=1e-3)
        assert model.validation["accuracy"] == pytest.approx(history[-1]["accuracy"], abs=0.005)
        assert model.validation["accuracy"] > 0.8

        # No server can do otherwise with it, and no client of the key would.
        with pytest.raises(FednError, match="encrypted model cannot be read"):
            api.start_session({"rounds": 1})
        with pytest.raises(FednError, match="npz cannot say how"):
            api.download_model(session.model_id, tmp_path / "server.npz", format="npz")
        seeds = tmp_path / "seed.npz"
        seeds.write_bytes(plain.read_bytes())
        api.seed(seeds)
        refused = federation.run(rounds=1, max_attempts=1, validate=False, parameters=PARAMETERS)
        assert refused.state == "failed"
        reasons = {entry.reason.code for entry in api.round(refused.id, 0).ledger}
        assert reasons == {"encryption_required"}
        wait_for(lambda: api.status(), "the federation goes on")
