"""Whole experiments: started here by the command line, and over a federation that runs already."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn import Driver
from fedn.models.files import read_tensors
from fedn.sandbox.project import DEFAULT_PROJECT
from tests.support.federation import Federation
from tests.support.sandboxes import fedn


def test_an_experiment_starts_trains_ends_and_tells_where_the_time_went(tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_PROJECT, tmp_path / "digits", ignore=shutil.ignore_patterns("seed"))
    (tmp_path / "federation.yaml").write_text(
        "name: first\nproject: digits\nlocal: {clients: 2, combiners: 1}\n"
        "plan: {rounds: 3, parameters: {epochs: 1}}\ntensors: true\nmodel: last.safetensors\n"
    )
    done = fedn("driver", "federation.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 aggregations, 3 evaluations" in done.stdout and "statistics.json" in done.stdout
    found = json.loads((tmp_path / "statistics.json").read_text())
    session = found["session"]
    assert (session["name"], session["state"]) == ("first", "finished")
    # The seed came from one of the clients: there was none.
    assert [each["kind"] for each in session["rounds"]] == ["init", "train", "train", "train", "validate"]
    (maker,) = session["rounds"][0]["clients"]
    assert maker["client"] in {"client-1", "client-2"}
    trained = session["rounds"][1:4]
    for each in trained:
        assert len(each["clients"]) == 2 and each["updates"] == 2
        assert sum(client["share"] for client in each["clients"]) == pytest.approx(1)
        for client in each["clients"]:
            # The client's own clock, inside what the combiner saw of it.
            assert 0 < client["train_ms"] + client["validate_ms"] <= client["task_ms"] <= client["busy_ms"]
            assert client["validation"]["accuracy"] > 0
    assert [model["made_in_round"] for model in session["models"]] == [None, 0, 1, 2]
    assert [client["name"] for client in found["participants"]] == ["client-1", "client-2"]
    last = read_tensors(tmp_path / "last.safetensors")
    counted = found["model_tensors"][-1]
    assert counted["model_id"] == found["model_id"] == trained[-1]["model_id"]
    assert {one["name"]: one["zeros"] + one["non_zeros"] for one in counted["tensors"]} == {
        name: array.size for name, array in last.items()
    }
    # Nothing of it runs any more.
    assert not any(
        Path(f"/proc/{pid.read_text().strip()}").exists() for pid in (tmp_path / "fedn-driver").rglob("*.pid")
    )


METISFL = """
CommunicationProtocol: {Name: SemiSynchronous, SemiSyncLambda: 0.5, SemiSyncRecompute: true}
TerminationSignals: {FederationRounds: 2}
ModelStoreConfig: {ModelStore: InMemory, EvictionPolicy: LineageLengthEviction, LineageLength: 2}
GlobalModelConfig: {AggregationRule: FedStride, StrideLength: 1, ScalingFactor: NumCompletedBatches}
LocalModelConfig: {BatchSize: 32, LocalEpochs: 2, OptimizerParams: {LearningRate: 0.2}}
Learners:
  - {GRPCServer: {Hostname: localhost}, CudaDevices: [3]}
  - {GRPCServer: {Hostname: localhost}, CudaDevices: [3]}
local: {combiners: 1}
"""


def test_a_file_of_metisfl_runs(tmp_path: Path) -> None:
    (tmp_path / "metisfl.yaml").write_text(METISFL)
    done = fedn("driver", "metisfl.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["session"]["aggregations"], found["session"]["evaluations"]) == (2, 2)
    plan = found["plan"]
    assert plan["rule"] == {"name": "fedstride", "options": {"stride_length": 1}}
    asked = {"batch_size": 32, "epochs": 2, "learning_rate": 0.2}
    assert {name: plan["parameters"][name] for name in asked} == asked
    cold, budgeted = found["session"]["rounds"][:2]
    for client in cold["clients"]:
        assert client["num_steps"] == 2 * -(-client["num_examples"] // 32)
    slowest = max(client["ms_per_epoch"] for client in cold["clients"])
    before = {client["client"]: client for client in cold["clients"]}
    for client in budgeted["clients"]:
        # Half an epoch of the slowest one, in each one's own steps; what an update weighs is its steps.
        wanted = 0.5 * slowest / before[client["client"]]["ms_per_step"]
        assert client["num_steps"] == pytest.approx(wanted, abs=1)
        steps = sum(other["num_steps"] for other in budgeted["clients"])
        assert client["share"] == pytest.approx(client["num_steps"] / steps)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("running"), combiners=1, clients=2) as running:
        yield running


def attached(federation: Federation, **content: object) -> Driver:
    return Driver({"attach": {"context": str(federation.folder / "reducer" / "admin.json")}, **content})


def test_an_experiment_over_a_running_federation_leaves_it_running(federation: Federation, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    watched = []
    plan = {"rounds": 40, "clients_required": 2, "stop_at": {"metric": "mean", "cutoff": 2}}
    found = attached(federation, plan=plan, statistics=str(file)).run(watch=lambda steps: watched.extend(steps))
    # A client made the first model, of zeros; the mean grows by one a round.
    assert (found.state, found.session.aggregations, found.session.evaluations) == ("finished", 3, 3)
    assert found.session.ended_because is not None and found.session.ended_because.code == "metric_reached"
    assert found.plan["seed_from_client"] is True
    assert watched[-1].done and watched[-1].rounds_done == 3
    assert json.loads(file.read_text())["session"]["session"] == found.session.session
    assert federation.api.status().clients_attached == 2
    # REST, command line and driver say the same.
    context = str(federation.folder / "reducer" / "admin.json")
    told = fedn("session", "statistics", "--json", "--context", context, cwd=tmp_path)
    assert json.loads(told.stdout) == federation.api.statistics(found.session.session).model_dump(mode="json")
    table = fedn("session", "statistics", "--round", "1", "--context", context, cwd=tmp_path)
    assert table.returncode == 0 and "client-2" in table.stdout


def test_an_interrupted_experiment_stops_its_session(federation: Federation) -> None:
    class Enough(Exception):
        pass

    def interrupt(steps: Iterator[object]) -> None:
        next(iter(steps))
        raise Enough

    federation.hold("client-1", "client-2")
    try:
        with pytest.raises(Enough):
            attached(federation, plan={"rounds": 5}, statistics=None).run(watch=interrupt)
        assert federation.api.sessions()[0].state == "stopped"
    finally:
        federation.release("client-1", "client-2")
