"""As many steps as a task asks for, whatever the data; and what is said of them."""

import pytest

from fedn import TaskContext
from fedn.client.batches import Steps
from fedn.learners.steps import rate_parameter, repeated, watched, whole_parameter
from fedn.protocol.errors import InvalidInput


def context(**fields: object) -> TaskContext:
    return TaskContext(**({"session": "s", "round": 0, "client": "me", "kind": "train"} | fields))


@pytest.mark.parametrize(("budget", "made"), [(None, 6), (1, 1), (3, 3), (7, 7)])
def test_steps_over_items_of_any_kind_keep_to_the_budget(budget: int | None, made: int) -> None:
    steps = Steps(25, 3, 2, step_budget=budget)
    assert list(steps.over(repeated("abc"))) == list("abcabcabc")[:made]
    said = steps.metadata()
    assert (said["num_examples"], said["num_steps"], len(steps)) == (25, made, made)
    assert said["ms_per_epoch"] == pytest.approx(3 * said["ms_per_step"]) and said["ms_per_step"] > 0


def test_a_cancelled_task_ends_early_and_tells_how_far_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn.learners.steps._LOOK_EVERY_S", 0.0)
    told: list[tuple[float, object]] = []
    task = context(
        is_cancelled=lambda: len(told) == 3, report=lambda fraction, metrics: told.append((fraction, metrics))
    )
    steps = Steps(4, 4, 1, step_budget=10)
    assert len(list(watched(task, steps, steps.over(repeated(range(4))), lambda: {"loss": 1.0}))) == 3
    assert told == [(0.1, {"loss": 1.0}), (0.2, {"loss": 1.0}), (0.3, {"loss": 1.0})]
    assert steps.metadata()["num_steps"] == 3


def test_data_that_ran_out_end_the_task() -> None:
    steps = Steps(2, 2, 1, step_budget=5)
    assert list(steps.over(repeated(iter([1, 2])))) == [1, 2]


@pytest.mark.parametrize("counts", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_task_without_steps_is_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInput, match="must be at least 1, not 0"):
        Steps(*counts, step_budget=None)


@pytest.mark.parametrize("value", [0, -1, 1.5, "two", True, None])
def test_a_count_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="epochs must be a whole number") as caught:
        whole_parameter({"epochs": value}, "epochs", 1)
    assert caught.value.where["field"] == "parameters.epochs"


@pytest.mark.parametrize("value", [0, -0.1, "fast", True, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none_is_refused(value: object) -> None:
    assert rate_parameter({}) is None and rate_parameter({"learning_rate": 1}) == 1.0
    with pytest.raises(InvalidInput, match="learning_rate"):
        rate_parameter({"learning_rate": value})
