"""A deterministic plan repeats to the bit, whatever happened in between."""

from tests.support.federation import Federation
from tests.support.learners import NoisyLearner

NAMES = ["client-1", "client-2", "client-3", "client-4", "client-5"]


def test_a_repeated_session_gives_the_same_models_whoever_came_first(tmp_path):
    with Federation(tmp_path, clients=0) as federation:
        for name in NAMES:
            federation.add_client(name, learner=NoisyLearner)
        federation.wait_attached(5)
        seed = federation.seed()
        plan = {"rounds": 3, "deterministic": True, "clients_required": 5, "seed": 11, "keep_combiner_models": True}
        first = federation.run(**plan)
        assert first.state == "finished", first.error

        for name in NAMES:
            federation.processes[name].stop()
        federation.wait_attached(0)
        for count, name in enumerate(reversed(NAMES), 1):
            federation.processes[name].start()
            federation.wait_attached(count)
        again = federation.run(**plan, model_id=seed)
        assert again.state == "finished", again.error
        models = {
            s.id: [r.model_id for r in federation.api.rounds(s.id) if str(r.kind) == "train"] for s in (first, again)
        }
        assert models[first.id] == models[again.id]
        other = federation.run(**{**plan, "seed": 12}, model_id=seed)
        assert other.model_id != first.model_id

        # The combiner models were kept: nothing that a trail entry names is garbage.
        stored = {file.name for file in (tmp_path / "reducer" / "models").rglob("*") if file.is_file()}
        for entry in federation.api.trail_entries():
            for model in entry.combiner_models:
                assert model.model_id.partition(":")[2] in stored
        assert federation.api.collect_garbage(older_than_s=0).num_removed == 0
