"""What a session took is known exactly, survives a restart, and is told by REST, the command line and every export."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn.protocol.rounds import Usage
from tests.support.federation import Federation, wait_for
from tests.support.sandboxes import fedn

ROUNDS, CLIENTS = 2, 2


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("accounting"), combiners=1, clients=CLIENTS) as running:
        running.seed()
        running.run(rounds=ROUNDS, parameters={"pause_s": 0.2})
        yield running


def run(federation: Federation, *arguments: str) -> str:
    context = federation.folder / "reducer" / "admin.json"
    done = fedn(*arguments, "--context", str(context), cwd=federation.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_byte_on_the_clients_links_is_counted(federation: Federation) -> None:
    api = federation.api
    (view,) = api.sessions()
    size = (federation.folder / "seed.safetensors").stat().st_size
    found = api.accounting(view.id)
    assert [(each.index, each.attempts, str(each.kind)) for each in found.rounds] == [
        (0, 1, "train"),
        (1, 1, "train"),
        (2, 1, "validate"),
    ]
    for each in found.rounds[:ROUNDS]:
        # Each client got the model that the round starts from, and sent one of the same size.
        usage = each.usage
        assert (usage.tasks, usage.updates, usage.down_bytes, usage.up_bytes) == (CLIENTS, CLIENTS, 2 * size, 2 * size)
    last = found.rounds[-1].usage
    assert (last.down_bytes, last.up_bytes) == (CLIENTS * size, 0)
    assert [client.client for client in found.clients] == ["client-1", "client-2"]
    for client in found.clients:
        assert client.rounds == ROUNDS + 1
        assert (client.usage.down_bytes, client.usage.up_bytes) == ((ROUNDS + 1) * size, ROUNDS * size)
        # The learner pauses in each training; the combiner sees that, and the way there.
        assert client.usage.task_ms >= ROUNDS * 200
        assert client.usage.busy_ms >= client.usage.task_ms * 0.99
        # What pauses uses no processor, and a process with NumPy in it holds more than 10 MB and less than 10 GB.
        assert 0 < client.usage.cpu_ms < client.usage.task_ms
        assert 1e7 < client.usage.memory_bytes < 1e10
    assert found.total == sum((client.usage for client in found.clients), Usage())


def test_accounting_survives_a_restart_of_the_reducer(federation: Federation) -> None:
    (view,) = federation.api.sessions()
    before = federation.api.accounting(view.id)
    reducer = federation.processes["reducer"]
    reducer.kill()
    reducer.start()
    assert wait_for(lambda: federation.api.accounting(view.id), "the reducer is back") == before


def test_the_command_line_shows_and_exports_it(federation: Federation) -> None:
    (view,) = federation.api.sessions()
    found = federation.api.accounting(view.id)
    table = run(federation, "session", "accounting", "--by", "client")
    assert "client-1" in table and table.splitlines()[-1].startswith("total")
    assert json.loads(run(federation, "session", "accounting", "--json")) == found.model_dump(mode="json")

    run(federation, "session", "export", "--out", "whole.json")
    whole = json.loads((federation.folder / "whole.json").read_text())
    assert whole["session"]["id"] == view.id
    assert whole["accounting"] == found.model_dump(mode="json")
    assert len(whole["rounds"]) == ROUNDS + 1 and len(whole["models"]) == ROUNDS

    run(federation, "session", "export", "--format", "csv", "--out", "tables")
    files = (federation.folder / "tables").iterdir()
    tables = {file.stem: list(csv.DictReader(io.StringIO(file.read_text()))) for file in files}
    assert [int(row["down_bytes"]) for row in tables["accounting_clients"]] == [
        client.usage.down_bytes for client in found.clients
    ]
    assert sum(int(row["up_bytes"]) for row in tables["ledger"]) == found.total.up_bytes
    losses = [row for row in tables["metrics"] if row["metric"] == "loss" and row["phase"] == "round"]
    assert [(row["round"], float(row["value"])) for row in losses] == [("0", 1.0), ("1", 0.5)]
    validated = [row for row in tables["metrics"] if row["phase"] == "validation" and row["round"] == "1"]
    assert {(row["client"], float(row["value"])) for row in validated} == {("client-1", 2.0), ("client-2", 2.0)}
    assert [row["weight"] for row in tables["contributions"]] == ["100.0"] * (ROUNDS * CLIENTS)
    again = fedn("session", "export", "--format", "csv", "--out", "tables", cwd=federation.folder)
    assert again.returncode != 0


def test_tensorboard_shows_the_session(federation: Federation) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (view,) = federation.api.sessions()
    for _ in range(2):  # the second time writes it anew
        run(federation, "session", "log", "--to", "tensorboard", "--out", "runs")
    events = EventAccumulator(str(federation.folder / "runs" / view.id))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("train/loss")] == [(0, 1.0), (1, 0.5)]
    assert [(one.step, one.value) for one in events.Scalars("validation/mean")] == [(0, 1.0), (1, 2.0)]
    usage = federation.api.accounting(view.id).rounds[0].usage
    assert events.Scalars("traffic/up_bytes")[0].value == usage.up_bytes
    assert [one.value for one in events.Scalars("clients/updated")] == [CLIENTS, CLIENTS]


def test_mlflow_has_a_run_of_the_session(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (view,) = federation.api.sessions()
    target = (tmp_path / "mlruns").as_uri()
    for _ in range(2):  # the second time goes on behind what is there, and finds nothing to add
        run(federation, "session", "log", "--to", "mlflow", "--out", target)
    client = MlflowClient(tracking_uri=target)
    experiment = client.get_experiment_by_name("fedn")
    assert experiment is not None
    (made,) = client.search_runs([experiment.experiment_id])
    assert (made.info.run_name, made.info.status) == (view.name, "FINISHED")
    assert made.data.tags["fedn.session"] == view.id
    assert made.data.params["rounds"] == str(ROUNDS)
    history = client.get_metric_history(made.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == [(0, 1.0), (1, 0.5)]
