"""`fedn sandbox`, as a newcomer types it."""

import json
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.federation import wait_for
from tests.support.processes import has_ended
from tests.support.sandboxes import fedn, running_sandbox


@pytest.mark.timeout(600)
def test_the_default_sandbox_reads_digits_and_its_trail_verifies(tmp_path: Path) -> None:
    done = fedn("sandbox", "--exit", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^\s+(\d+)/10\s+(\S+)", done.stdout, re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, 11))
    assert float(lines[-1][1]) >= 0.90
    assert "The trail is whole: 11 models" in done.stdout


@pytest.mark.timeout(600)
def test_equal_seeds_give_equal_models_and_a_second_start_goes_on(tmp_path: Path) -> None:
    arguments = ("sandbox", "--exit", "--rounds", "2", "--clients", "3", "--seed", "7")
    models = []
    for name in ("one", "two"):
        done = fedn(*arguments, "--data-dir", name, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        with running_sandbox(tmp_path, "--data-dir", name, "--rounds", "1", "--clients", "3") as again:
            again.wait_for("The federation goes on")
            context = str(tmp_path / name / "admin.json")
            trail = json.loads(fedn("trail", "show", "--json", "--context", context, cwd=tmp_path).stdout)
        assert [entry["kind"] for entry in trail] == ["seed", "round", "round", "round"]
        models.append([entry["model_id"] for entry in trail[:3]])
    assert models[0] == models[1]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_all_children_end_with_the_sandbox(tmp_path: Path, number: signal.Signals) -> None:
    with running_sandbox(tmp_path, "--clients", "2", "--combiners", "1", "--rounds", "500") as sandbox:
        sandbox.wait_for("Session ")
        children = sandbox.children()
        assert len(children) >= 4
        sandbox.process.send_signal(number)
        wait_for(lambda: all(has_ended(child.pid) for child in children), "they have all ended")
        sandbox.process.wait(timeout=60)


@pytest.mark.timeout(600)
def test_a_session_goes_on_when_a_client_and_a_combiner_are_killed(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, "--clients", "3", "--rounds", "40", "--exit") as sandbox:
        sandbox.wait_for(" 1/40 ")
        for name in ("client-3", "combiner-1"):
            psutil.Process(int((tmp_path / "fedn-sandbox" / "logs" / f"{name}.pid").read_text())).kill()
            sandbox.wait_for(f"{name} has ended (signal SIGKILL)")
        sandbox.wait_for("Finished: 40 of 40 rounds")
        sandbox.wait_for("The trail is whole: 41 models")
        assert sandbox.process.wait(timeout=60) == 0


@pytest.mark.timeout(600)
def test_a_learner_that_fails_ends_the_sandbox_with_the_reason(tmp_path: Path) -> None:
    assert fedn("new", "broken", cwd=tmp_path).returncode == 0
    learner = tmp_path / "broken" / "client" / "learner.py"
    learner.write_text(
        learner.read_text().replace(
            "        data = self._load(context)\n        matrix",
            "        raise ValueError('no data here')\n        matrix",
        )
    )
    (tmp_path / "broken" / "plan.yaml").write_text("rounds: 1\nmax_attempts: 1\nround_timeout_s: 60\n")
    done = fedn("sandbox", "--project", "broken", "--exit", "--clients", "2", "--combiners", "1", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no data here" in done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("framework", ["numpy", "sklearn"])
def test_a_new_project_runs_as_it_is(tmp_path: Path, framework: str) -> None:
    assert fedn("new", "mine", "--framework", framework, cwd=tmp_path).returncode == 0
    done = fedn("sandbox", "--project", "mine", "--exit", "--clients", "2", "--rounds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_sandboxes_do_not_share_a_folder(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, "--clients", "1", "--combiners", "1", "--rounds", "1") as first:
        first.wait_for("Starting")
        second = fedn("sandbox", "--exit", cwd=tmp_path)
    assert second.returncode == 5
    assert "data_dir_in_use" in second.stderr


def test_a_project_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = fedn("sandbox", "--project", "nowhere", "--exit", cwd=tmp_path)
    assert done.returncode == 2
    assert "no_project" in done.stderr and "fedn new" in done.stderr
