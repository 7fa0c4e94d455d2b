"""SCAFFOLD at the client: its corrections, what it keeps over rounds and restarts, and what it forgets."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn import Learner, Scaffold, TaskContext
from fedn.client.coding import CodingRequest, TaskCoding
from fedn.client.execution import execute
from fedn.models.wire import encode
from fedn.protocol.errors import InvalidInput, TaskFailed
from fedn.protocol.tasks import Section

START = {"w": np.array([1.0, 2.0], np.float32), "n": np.array(3)}
SERVER = {"control_variate": {"w": np.array([0.5, -0.5], np.float32)}}


def task(folder: Path, index: int, last: int | None = None, **changes: Any) -> TaskContext:
    context = TaskContext(
        session="s/1", round=index, client="a", kind="train", work_dir=folder, extra=SERVER, last_counted=last
    )
    return dataclasses.replace(context, **changes)


def trained(context: TaskContext, end: list[float]) -> np.ndarray:
    """Δcᵢ of a training of four steps of 0.25."""
    extra = Scaffold.of(context, START).finish({"w": np.array(end)}, num_steps=4, learning_rate=0.25)
    return extra["control_variate"]["w"]


def test_correction_and_change_are_those_of_the_paper(tmp_path: Path) -> None:
    scaffold = Scaffold.of(task(tmp_path, 0), START)
    np.testing.assert_allclose(scaffold.gradients()[0], [0.5, -0.5])
    assert scaffold.gradients()[1] == 0.0  # an integer tensor has no gradient
    # cᵢ⁺ − cᵢ = (x − y)/(K·η) − c
    np.testing.assert_allclose(trained(task(tmp_path, 0), [0.0, 4.0]), [1.0 - 0.5, -2.0 + 0.5])
    # cᵢ⁺ = (1, −2) − c + cᵢ, with cᵢ = 0, is the cᵢ of the next task: here a new process would read it likewise.
    np.testing.assert_allclose(Scaffold.of(task(tmp_path, 1, 0), START).gradients()[0], [0.5 - 0.5, -0.5 + 1.5])


def test_what_did_not_count_is_not_gone_on_from(tmp_path: Path) -> None:
    trained(task(tmp_path, 0), [0.0, 4.0])
    trained(task(tmp_path, 1, 0), [9.0, 9.0])
    # The update of round 1 was late: the server says that round 0 counted last.
    np.testing.assert_allclose(Scaffold.of(task(tmp_path, 2, 0), START).gradients()[0], [0.0, 1.0])
    # The same round again, whatever its first try left behind.
    trained(task(tmp_path, 2, 0), [7.0, 7.0])
    np.testing.assert_allclose(trained(task(tmp_path, 2, 0), [1.0, 2.0]), [-0.5, 0.5])


def test_another_session_begins_at_zero_and_old_ones_are_forgotten(tmp_path: Path) -> None:
    trained(task(tmp_path, 0), [0.0, 4.0])
    other = task(tmp_path, 1, None, session="s/2")
    np.testing.assert_allclose(Scaffold.of(other, START).gradients()[0], [0.5, -0.5])
    for number in range(10):
        trained(dataclasses.replace(other, session=f"../s{number}"), [0.0, 0.0])
    assert len(list((tmp_path / "scaffold").iterdir())) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["scaffold"]
    for index in range(1, 9):
        trained(task(tmp_path, index, index - 1, session="long"), [0.0, 0.0])
    assert len(list((tmp_path / "scaffold" / "long").iterdir())) == 4


def test_what_is_lost_or_damaged_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(task(tmp_path, 0), [0.0, 4.0])
    (file,) = (tmp_path / "scaffold" / "s%2F1").iterdir()
    file.write_bytes(b"rubbish")
    np.testing.assert_allclose(Scaffold.of(task(tmp_path, 1, 0), START).gradients()[0], [0.5, -0.5])
    assert "round 0 is lost" in caplog.text
    file.write_bytes(encode({"w": np.zeros(7)}))
    np.testing.assert_allclose(Scaffold.of(task(tmp_path, 1, 0), START).gradients()[0], [0.5, -0.5])
    assert "of another model" in caplog.text


def test_a_list_of_weights_is_named_by_position(tmp_path: Path) -> None:
    context = task(tmp_path, 0, extra={"control_variate": {"0": np.ones(2), "2": np.full(1, 5.0)}})
    scaffold = Scaffold.of(context, [np.zeros(2), np.zeros(3, np.int64), np.zeros(1)])
    np.testing.assert_allclose(scaffold.gradients()[2], [5.0])
    extra = scaffold.finish([np.zeros(2), np.zeros(3), np.ones(1)], num_steps=1, learning_rate=1.0)
    np.testing.assert_allclose(extra["control_variate"]["2"], [-6.0])


def test_without_the_rule_the_same_learner_trains_as_ever(tmp_path: Path) -> None:
    scaffold = Scaffold.of(task(tmp_path, 0, extra={}), START)
    assert scaffold.gradients() == [0.0, 0.0]
    assert scaffold.finish(START, num_steps=1, learning_rate=0.1) == {}
    assert not list(tmp_path.iterdir())


def test_weights_that_are_missing_and_steps_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not given the weights w"):
        Scaffold.of(task(tmp_path, 0), {"other": np.zeros(2)})
    scaffold = Scaffold.of(task(tmp_path, 0), START)
    for steps, rate in [(0, 0.1), (1, 0.0), (1, float("nan"))]:
        with pytest.raises(InvalidInput, match="at least one step"):
            scaffold.finish(START, num_steps=steps, learning_rate=rate)


class Returns(Learner):
    def __init__(self, extra: Any) -> None:
        self.extra = extra

    def train(self, weights: Any, context: TaskContext) -> Any:
        assert set(context.extra["control_variate"]) == {"w"}
        return weights, {}, {"num_examples": 1, "extra": self.extra}


def run(extra: Any, folder: Path) -> Any:
    own = bytes(encode(SERVER["control_variate"]))
    brought = bytearray(encode({"w": START["w"]}) + own)
    sections = (Section(name="control_variate", size_bytes=len(own)),)
    coding = TaskCoding(CodingRequest(session="s", round=0, task_id="t", extras=sections), brought)
    return execute(Returns(extra), task(folder, 0, extra={}), coding, validate_incoming=False)


def test_what_a_learner_must_return_beside_its_update_is_checked(tmp_path: Path) -> None:
    done = run({"control_variate": {"w": np.ones(2)}}, tmp_path)
    assert done.extras["control_variate"]["w"].dtype == np.float32
    for bad in ({}, {"control_variate": {"w": np.ones(3)}}, {"control_variate": {}}, {"c": {"w": np.ones(2)}}):
        with pytest.raises(TaskFailed):
            run(bad, tmp_path)
