"""Real processes: commits of each client's latest model go on, exactly, when a combiner and a client are killed."""

from pathlib import Path

import numpy as np

from fedn.models.files import read_tensors
from tests.support.federation import Federation, wait_for

EXAMPLES = {"client-1": 10, "client-2": 40, "client-3": 250, "client-4": 100}
ROUNDS = 40


def test_latest_models_count_once_each_while_a_combiner_and_a_client_are_killed(tmp_path: Path) -> None:
    with Federation(tmp_path, combiners=2, clients=0) as federation:
        for client, examples in EXAMPLES.items():
            folder = federation.data_of(client)
            folder.mkdir(parents=True)
            (folder / "examples").write_text(str(examples))
            federation.add_client(client)
        federation.wait_attached(len(EXAMPLES))
        federation.seed()
        plan = {
            "rounds": ROUNDS,
            "rule": "fedrec",
            "scheduler": {"name": "asynchronous", "options": {"max_staleness": 1000}},
            "parameters": {"pause_s": 0.2},
            "validate": False,
            "max_attempts": 20,
        }
        session = federation.api.start_session(plan).id

        def done(rounds: int) -> None:
            wait_for(lambda: federation.api.session(session).rounds_done >= rounds, f"{rounds} commits")

        done(6)
        federation.processes["c1"].kill()
        federation.processes["client-4"].kill()
        federation.processes["c1"].start()
        done(federation.api.session(session).rounds_done + 3)
        federation.processes["client-4"].start()
        ended = federation.wait_ended(session)
        assert (ended.state, ended.rounds_done) == ("finished", ROUNDS), ended.error

        models = [0.0]
        latest: dict[str, int] = {}
        for index in range(ROUNDS):
            view = federation.api.round(session, index)
            parts = [part for model in view.combiner_models for part in model.contributions]
            assert len({part.client for part in parts}) == len(parts)
            # Each training adds 1 to the model that it started from.
            values = [models[part.base_index or 0] + 1.0 for part in parts]
            models.append(float(np.average(values, weights=[EXAMPLES[part.client] for part in parts])))
            bases = {part.client: part.base_index for part in parts}
            told = {entry.client: entry.base_index for entry in view.ledger if entry.state == "updated"}
            assert told and told.items() <= bases.items()
            for client, base_index in bases.items():
                assert base_index is not None and base_index >= latest.get(client, 0)
                latest[client] = base_index
            target = tmp_path / "model.safetensors"
            federation.api.download_model(view.model_id, target)
            np.testing.assert_allclose(read_tensors(target)["0"], models[-1], rtol=1e-6)
        assert set(latest) == set(EXAMPLES)
        federation.api.verify_trail()
