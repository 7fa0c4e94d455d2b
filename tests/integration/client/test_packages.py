"""Compute packages: commands as subprocesses with limits, FEDn's own packages as they are, Learners in packages."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.calls import TaskCall, TaskOutcome
from fedn.client.isolation.choice import isolation_of
from fedn.client.objects import HeldFile
from fedn.client.packages import PackageRuntimes
from fedn.client.spool import Spool
from fedn.models.codecs.encode import encode as encode_tensors
from fedn.models.codecs.payload import Payload
from fedn.models.digest import digest
from fedn.models.wire import decode, encode, read_spec
from fedn.plan.chains import check_chains, make_chain
from fedn.plan.package import build_package
from fedn.plan.session import SessionPlan
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskKind
from tests.integration.client.conftest import attached, model_of
from tests.integration.client.stand_ins import FakeReducer
from tests.support.fake_combiner import PACKAGE, round_name, train_task
from tests.support.federation import wait_for
from tests.support.processes import has_ended

MakeSettings = Callable[..., ClientSettings]

STEPS = """
import json, os, subprocess, sys, time
if os.environ.get("FEDN_TASK_FILE") and '"hang"' in open(os.environ["FEDN_TASK_FILE"]).read():
    # Before what takes its time to import: its time limit is short.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    open(os.path.join(os.environ["FEDN_WORK_DIR"], "pids"), "w").write(f"{os.getpid()} {child.pid}")
    time.sleep(3600)
import numpy as np
from fedn.models.files import read_tensors, write_tensors

step, *paths = sys.argv[1:]
task = json.load(open(os.environ["FEDN_TASK_FILE"])) if "FEDN_TASK_FILE" in os.environ else {}
parameters = task.get("parameters", {})
print("step", step, "of", task.get("task_id"))
if step == "startup":
    open("started", "a").write("x")
elif step == "build":
    write_tensors(paths[0], {"w": np.zeros(2, np.float32)})
elif step == "train":
    how = parameters.get("how", "")
    if how == "fail":
        sys.exit("the data base is locked")
    if how == "eat":
        hungry = bytearray(4 << 30)
    tensors = {name: array + parameters.get("add", 1) for name, array in read_tensors(paths[0]).items()}
    if how != "no output":
        write_tensors(paths[1], tensors)
    if how != "no result":
        json.dump({"num_examples": 11, "num_steps": 4, "metrics": {"loss": 0.5}, "rate": 0.1},
                  open(os.environ["FEDN_RESULT_FILE"], "w"))
elif step == "validate":
    tensors = read_tensors(paths[0])
    json.dump({"mean": float(np.mean(list(tensors.values())[0])), "num_examples": 6, "report": {"a": 1}},
              open(paths[1], "w"))
elif step == "predict":
    write_tensors(paths[1], {"answers": np.arange(3.0)})
"""

MANIFEST = """
name: plus
parameters: {add: 2}
entry_points:
  startup: {command: python3 steps.py startup}
  build: {command: python3 steps.py build}
  train: {command: python3 steps.py train}
  validate: {command: [python3, steps.py, validate]}
  predict: {command: python3 steps.py predict}
"""

FEDN_TRAIN = """
import json, sys
import numpy as np

weights = np.load(sys.argv[1])
np.savez(open(sys.argv[2], "wb"), **{name: weights[name] + 1 for name in weights.files})
json.dump({"num_examples": 9, "batch_size": 32}, open(sys.argv[2] + "-metadata", "w"))
"""


def write_package(folder: Path, manifest: str = MANIFEST, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fedn.yaml").write_text(manifest)
    (folder / "steps.py").write_text(STEPS)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def call_of(kind: str, tmp_path: Path, **fields: Any) -> TaskCall:
    model = None if kind == "init" else bytes(encode({"w": np.ones(2, np.float32)}))
    fields = {"parameters": {}, "model": model, "timeout_s": 60.0} | fields
    return TaskCall(task_id="t1", kind=TaskKind(kind), session="s", round=2, client="alice", **fields)


def run_in(package: Path, tmp_path: Path, *calls: TaskCall, **changes: Any) -> list[TaskOutcome]:
    """Outcomes of tasks done with a local package."""
    settings = ClientSettings(
        reducer_url="http://localhost:1", name="alice", data_dir=tmp_path / "data", package=str(package), **changes
    )
    work_dir = tmp_path / "work"
    work_dir.mkdir(exist_ok=True)

    async def scenario() -> list[TaskOutcome]:
        isolation = isolation_of(settings, tmp_path / "data")
        runtime = await PackageRuntimes(settings, tmp_path / "data", isolation).local(package, work_dir)
        try:
            await runtime.start()
            return [await runtime.run(call, lambda fraction, metrics: None) for call in calls]
        finally:
            await runtime.close()

    return asyncio.run(scenario())


def test_each_kind_of_task_has_its_command(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    kinds = ["init", "train", "validate", "predict"]
    made, trained, validated, predicted = run_in(package, tmp_path, *(call_of(kind, tmp_path) for kind in kinds))
    assert decode(made.tensors)["w"].shape == (2,)
    np.testing.assert_array_equal(decode(trained.tensors)["w"], [3, 3])  # the manifest's own parameter: add 2
    assert trained.object_id == digest(trained.tensors)
    assert (trained.num_examples, trained.num_steps) == (11, 4)
    assert trained.cpu_ms > 0  # of the command, which has ended
    assert trained.metrics == {"loss": 0.5, "rate": 0.1}
    assert (validated.metrics, validated.num_examples, validated.object_id) == ({"mean": 1.0}, 6, "")
    np.testing.assert_array_equal(decode(predicted.tensors)["answers"], [0, 1, 2])
    assert (package / "started").read_text() == "x"
    assert list((tmp_path / "data" / "tasks").iterdir()) == []


def test_plan_overrides_the_packages_parameters_and_validates_the_incoming_model(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    [outcome] = run_in(package, tmp_path, call_of("train", tmp_path, parameters={"add": 5}, validate_incoming=True))
    np.testing.assert_array_equal(decode(outcome.tensors)["w"], [6, 6])
    assert (outcome.validation, outcome.num_validation_examples) == ({"mean": 1.0}, 6)


def test_packages_of_fedn_run_as_they_are(tmp_path: Path) -> None:
    manifest = "entry_points: {train: {command: python3 train.py}}\nformat: npz\n"
    package = write_package(tmp_path / "package" / "client", manifest, train=FEDN_TRAIN).parent
    [outcome] = run_in(package, tmp_path, call_of("train", tmp_path))
    np.testing.assert_array_equal(decode(outcome.tensors)["w"], [2, 2])
    assert (outcome.num_examples, outcome.metrics) == (9, {"batch_size": 32.0})


def test_commands_get_decoded_models_and_their_updates_are_encoded(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    base = bytes(encode({"w": np.array([1.5, -2.0], np.float32)}))
    plan = check_chains(SessionPlan.model_validate({"update_chain": ["delta", "int8"], "model_chain": ["bfloat16"]}))
    packed = encode_tensors(make_chain(plan.model_chain).of(read_spec(base), digest(base)), decode(base))
    chains = {
        "model": bytes(packed),
        "model_id": digest(base),
        "model_chain": plan.model_chain,
        "update_chain": plan.update_chain,
        "feedback_folder": tmp_path / "feedback",
    }
    outcome, predicted = run_in(
        package, tmp_path, call_of("train", tmp_path, **chains), call_of("predict", tmp_path, **chains)
    )
    encoding = make_chain(plan.update_chain).of(read_spec(base), digest(base))
    update = decode(Payload(encoding, outcome.tensors).decode())
    np.testing.assert_allclose(update["w"], 2.0)
    assert (outcome.form, outcome.coded, outcome.decoded_bytes) == ("delta", True, len(base))
    assert outcome.object_id == digest(outcome.tensors)
    assert (tmp_path / "feedback" / "state.json").exists()
    np.testing.assert_array_equal(decode(predicted.tensors)["answers"], [0, 1, 2])


def test_an_update_that_does_not_fit_its_model_is_not_encoded(tmp_path: Path) -> None:
    manifest = "entry_points: {train: {command: python3 train.py}}\n"
    code = """
import json, os, sys
import numpy as np
from fedn.models.files import write_tensors

write_tensors(sys.argv[2], {"w": np.ones(3, np.float32)})
json.dump({"num_examples": 1}, open(os.environ["FEDN_RESULT_FILE"], "w"))
"""
    package = write_package(tmp_path / "package", manifest, train=code)
    chain = check_chains(SessionPlan.model_validate({"update_chain": ["bfloat16"]})).update_chain
    with pytest.raises(TaskFailed, match=r"shape \(3,\) instead of \(2,\)"):
        run_in(package, tmp_path, call_of("train", tmp_path, update_chain=chain))


def test_large_result_of_a_command_goes_to_the_spools_file(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    model_id, data = model_of(np.zeros(600_000, np.float32))
    model = tmp_path / "model"
    model.write_bytes(data + b"what an earlier, longer model left in the file")
    spool = Spool(tmp_path / "spool")
    slot = spool.work()
    [outcome] = run_in(package, tmp_path, call_of("train", tmp_path, model=HeldFile(model, len(data)), result=slot))
    assert outcome.tensors is slot
    assert digest(slot.view(outcome.size_bytes)) == outcome.object_id
    assert digest(model.read_bytes()[: len(data)]) == model_id


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("fail", "step_failed", "the data base is locked"),
        ("no output", "bad_output", "out.safetensors"),
        ("no result", "bad_output", "result.json"),
    ],
)
def test_failing_command_says_why(tmp_path: Path, how: str, code: str, text: str) -> None:
    package = write_package(tmp_path / "package")
    with pytest.raises(TaskFailed, match=text) as caught:
        run_in(package, tmp_path, call_of("train", tmp_path, parameters={"how": how}))
    assert caught.value.code == code
    assert list((tmp_path / "data" / "tasks").iterdir()) == []


def test_hanging_command_is_killed_with_all_its_children(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    with pytest.raises(TaskFailed, match="task_timeout"):
        run_in(package, tmp_path, call_of("train", tmp_path, parameters={"how": "hang"}, timeout_s=5.0))
    check_gone(tmp_path / "work" / "pids")


def test_command_cannot_take_more_memory_than_its_limit(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    with pytest.raises(TaskFailed, match="MemoryError"):
        run_in(package, tmp_path, call_of("train", tmp_path, parameters={"how": "eat"}), memory_bytes=3 << 30)


def test_secrets_of_the_agent_are_not_in_the_commands_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_ALLIANCE_AUTH_TOKEN", "secret")
    monkeypatch.setenv("FEDN_JOIN", "secret")
    look = "import os, sys; sys.exit(0 if 'secret' not in os.environ.values() else 'it is there')"
    manifest = "entry_points: {startup: {command: python3 look.py}, train: {command: python3 steps.py train}}\n"
    package = write_package(tmp_path / "package", manifest, look=look)
    assert len(run_in(package, tmp_path, call_of("train", tmp_path))) == 1


def test_commands_of_a_package_that_names_a_learner_too_come_first(tmp_path: Path) -> None:
    learner = (
        "import numpy as np\nfrom fedn import Learner\n"
        "class Mine(Learner):\n"
        "    def train(self, weights, context):\n"
        "        return [w + 10 for w in weights] if isinstance(weights, list) else"
        " {n: w + 10 for n, w in weights.items()}, {'num_examples': 1}\n"
    )
    manifest = "learner: mine:Mine\nentry_points: {validate: {command: python3 steps.py validate}}\n"
    package = write_package(tmp_path / "package", manifest, mine=learner)
    trained, validated = run_in(package, tmp_path, call_of("train", tmp_path), call_of("validate", tmp_path))
    np.testing.assert_array_equal(decode(trained.tensors)["w"], [11, 11])
    assert validated.metrics == {"mean": 1.0}


def test_environment_always_has_the_clients_own_fedn(tmp_path: Path) -> None:
    look = (
        "import json, os, sys, fedn\n"
        "json.dump({'num_examples': 1, 'venv': float(sys.prefix != sys.base_prefix)},"
        " open(os.environ['FEDN_RESULT_FILE'], 'w'))\n"
        "import shutil; shutil.copy(sys.argv[1], sys.argv[2])\n"
        f"assert fedn.__file__ == {__import__('fedn').__file__!r}, fedn.__file__\n"
    )
    manifest = "python_env: python_env.yaml\nentry_points: {train: {command: python3 look.py}}\n"
    package = write_package(tmp_path / "package", manifest, look=look)
    (package / "python_env.yaml").write_text("name: x\ndependencies: [fedn, 'numpy>=1']\n")
    [outcome] = run_in(package, tmp_path, call_of("train", tmp_path))
    assert outcome.metrics == {"venv": 1.0}


def test_missing_requirement_without_an_index_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    manifest = "python_env: python_env.yaml\nentry_points: {train: {command: python3 steps.py train}}\n"
    package = write_package(tmp_path / "package", manifest)
    (package / "python_env.yaml").write_text("dependencies: [a-distribution-that-nobody-has==1.0]\n")
    with pytest.raises(TaskFailed, match="a-distribution-that-nobody-has") as caught:
        run_in(package, tmp_path, call_of("train", tmp_path))
    assert caught.value.code == "environment_failed"


def test_package_of_the_federation_is_ready_before_the_first_task(
    reducer: FakeReducer, settings: MakeSettings, tmp_path: Path
) -> None:
    manifest = "entry_points: {validate: {command: python3 steps.py validate}}\n"
    reducer.package = build_package(write_package(tmp_path / "package", manifest))
    package_id = reducer.package_id = digest(reducer.package)
    model_id, data = model_of(np.ones(2, np.float32))

    async def scenario() -> None:
        async with attached(reducer, settings(learner=None)) as (stream, _, _):
            assert list(stream.hello.kinds) == [3]
            assert package_id in stream.hello.held_objects
            await stream.push(model_id, data)
            await stream.task(train_task("alice", model_id, kind="validate", package_id=package_id), round_name())
            ready, _ = await stream.take("t1")
            assert dict(ready.metadata.metrics) == {"mean": 1.0}

    asyncio.run(scenario())


def test_package_of_the_federation_comes_by_digest_with_its_task(
    reducer: FakeReducer, settings: MakeSettings, tmp_path: Path
) -> None:
    packed = build_package(write_package(tmp_path / "package"))
    package_id = reducer.package_id = digest(packed)
    model_id, data = model_of(np.zeros(2, np.float32))
    mine = settings(learner=None, package_pins=[package_id])

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await stream.push(package_id, packed, PACKAGE)
            await stream.push(model_id, data)
            await stream.task(train_task("alice", model_id, package_id=package_id), round_name())
            _, update = await stream.take("t1")
            np.testing.assert_array_equal(decode(update)["0"], [2, 2])
            other = digest(b"another package")
            await stream.task(train_task("alice", model_id, "t2", package_id=other), round_name(1))
            assert (await stream.expect("task_failed")).problem.code == "package_not_pinned"

    asyncio.run(scenario())


def test_cancelled_command_is_killed(reducer: FakeReducer, settings: MakeSettings, tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    model_id, data = model_of(np.zeros(2, np.float32))
    mine = settings(learner=None, package=str(package))
    pids = mine.data_dir / "work" / "pids"

    async def scenario() -> None:
        async with attached(reducer, mine) as (stream, _, _):
            await stream.push(model_id, data)
            await stream.task(train_task("alice", model_id, "old", parameters={"how": "hang"}), round_name())
            await stream.expect("task_accepted", skip=[])
            await asyncio.to_thread(wait_for, lambda: len(pids_in(pids)) == 2, "the step hangs")
            await stream.send(cancelled={"task_id": "old", "reason": "late"})
            await stream.task(train_task("alice", model_id, "new"), round_name(1))
            await stream.take("new")

    asyncio.run(scenario())
    check_gone(pids)


def pids_in(path: Path) -> list[int]:
    """Of the hanging step and its child, once both are there."""
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def check_gone(path: Path) -> None:
    pids = pids_in(path)
    assert len(pids) == 2
    wait_for(lambda: all(map(has_ended, pids)), "the step and its child have ended")


def test_session_without_package_tells_a_client_without_learner(reducer: FakeReducer, settings: MakeSettings) -> None:
    model_id, data = model_of(np.zeros(2, np.float32))

    async def scenario() -> None:
        async with attached(reducer, settings(learner=None)) as (stream, _, _):
            await stream.push(model_id, data)
            await stream.task(train_task("alice", model_id), round_name())
            assert (await stream.expect("task_failed")).problem.code == "no_learner"

    asyncio.run(scenario())
