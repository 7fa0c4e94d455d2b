"""Extra state and the commands of compute packages: files in, files out, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedn import Scaffold, TaskContext
from fedn.client.calls import TaskCall, TaskOutcome
from fedn.models.digest import digest
from fedn.models.wire import Tensors, decode, encode
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import Section
from tests.integration.client.test_packages import call_of, run_in

EXTRA = "control_variate"
MANIFEST = f"""
name: scaffold
format: FORMAT
extras: [{EXTRA}]
entry_points:
  train: {{command: python3 train.py}}
"""
TRAIN = """
import json, os, sys
from pathlib import Path

from fedn import Scaffold, TaskContext
from fedn.models.files import read_tensors, write_tensors

task = json.load(open(os.environ["FEDN_TASK_FILE"]))
files = task["extras"]
context = TaskContext(
    session=task["session"], round=task["round"], client=task["client"], kind="train", seed=task["seed"],
    work_dir=Path(os.environ["FEDN_WORK_DIR"]), last_counted=task["last_counted"],
    extra={name: read_tensors(Path(file["in"])) for name, file in files.items()},
)
weights = {name: array.copy() for name, array in read_tensors(Path(sys.argv[1])).items()}
scaffold = Scaffold.of(context, weights)
for _ in range(2):
    for weight, correction in zip(weights.values(), scaffold.gradients()):
        weight -= 0.25 * (weight - 3 + correction)
write_tensors(sys.argv[2], weights)
extra = scaffold.finish(weights, num_steps=2, learning_rate=0.25)
how = task["parameters"].get("how")
for name, file in files.items():
    if how == "short":
        extra[name]["w"] = extra[name]["w"][:1]
    if how != "silent":
        write_tensors(file["out"], extra[name])
json.dump({"num_examples": 5, "num_steps": 2}, open(os.environ["FEDN_RESULT_FILE"], "w"))
"""
START = {"w": np.array([1.0, 2.0], np.float32)}
SERVER = {"w": np.array([0.5, -0.5], np.float32)}


def package_of(folder: Path, manifest: str = MANIFEST, suffix: str = "safetensors") -> Path:
    folder.mkdir()
    (folder / "fedn.yaml").write_text(manifest.replace("FORMAT", suffix))
    (folder / "train.py").write_text(TRAIN)
    return folder


def scaffold_call(tmp_path: Path, round_index: int, last_counted: int | None, **parameters: str) -> TaskCall:
    server = bytes(encode(SERVER))
    call = call_of(
        "train",
        tmp_path,
        model=bytes(encode(START)) + server,
        extras=(Section(name=EXTRA, size_bytes=len(server)),),
        last_counted=last_counted,
        parameters=dict(parameters),
    )
    return replace(call, round=round_index)


def parts_of(outcome: TaskOutcome) -> tuple[Tensors, Tensors]:
    """(The model, the change)."""
    (section,) = outcome.extras
    data = bytes(outcome.tensors)
    assert section["name"] == EXTRA and outcome.object_id == digest(data)
    at = len(data) - section["size_bytes"]
    return decode(data[:at]), decode(data[at:])


def expected(folder: Path, round_index: int, last_counted: int | None) -> tuple[Tensors, Tensors]:
    """What a Learner of the same steps makes of the task."""
    context = TaskContext(
        session="s",
        round=round_index,
        client="alice",
        kind="train",
        work_dir=folder,
        last_counted=last_counted,
        extra={EXTRA: SERVER},
    )
    weights = {name: array.copy() for name, array in START.items()}
    scaffold = Scaffold.of(context, weights)
    for _ in range(2):
        weights["w"] -= 0.25 * (weights["w"] - 3 + scaffold.gradients()[0])
    return weights, scaffold.finish(weights, num_steps=2, learning_rate=0.25)[EXTRA]


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_a_command_does_scaffold_as_a_learner_does_over_rounds(tmp_path: Path, suffix: str) -> None:
    package = package_of(tmp_path / "package", suffix=suffix)
    tasks = [(0, None), (1, 0)]
    outcomes = run_in(package, tmp_path, *(scaffold_call(tmp_path, *task) for task in tasks))
    for outcome, task in zip(outcomes, tasks, strict=True):
        model, change = expected(tmp_path / "learner", *task)
        found_model, found_change = parts_of(outcome)
        np.testing.assert_allclose(found_model["w"], model["w"])
        np.testing.assert_allclose(found_change["w"], change["w"])
    first, second = (parts_of(outcome)[1]["w"] for outcome in outcomes)
    assert np.abs(first - second).max() > 0.1  # the second one went on from the site's own


def test_a_package_that_does_not_say_that_it_knows_is_not_started(tmp_path: Path) -> None:
    package = package_of(tmp_path / "package", MANIFEST.replace(f"extras: [{EXTRA}]\n", ""))
    with pytest.raises(TaskFailed, match=EXTRA) as error:
        run_in(package, tmp_path, scaffold_call(tmp_path, 0, None))
    assert error.value.code == "extra_not_known"
    assert not (tmp_path / "work" / "scaffold").exists()


@pytest.mark.parametrize(("how", "code"), [("silent", "bad_output"), ("short", "bad_weights")])
def test_a_change_that_is_missing_or_does_not_fit_fails_the_task(tmp_path: Path, how: str, code: str) -> None:
    package = package_of(tmp_path / "package")
    with pytest.raises(TaskFailed) as error:
        run_in(package, tmp_path, scaffold_call(tmp_path, 0, None, how=how))
    assert error.value.code == code


def test_under_a_rule_without_extra_state_the_same_command_is_plain_training(tmp_path: Path) -> None:
    package = package_of(tmp_path / "package")
    [outcome] = run_in(package, tmp_path, call_of("train", tmp_path, model=bytes(encode(START))))
    assert list(outcome.extras) == []
    np.testing.assert_allclose(decode(outcome.tensors)["w"], [3 - 2 * 0.75**2, 3 - 0.75**2])
