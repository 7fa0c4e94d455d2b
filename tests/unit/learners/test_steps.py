"""As many steps as a task asks for, whatever the data; and what is said of them."""

from collections.abc import Iterator

import pytest

from fedn import TaskContext
from fedn.learners.steps import Steps, index_batches, rate_parameter, whole_parameter
from fedn.protocol.errors import InvalidInput


def context(**fields: object) -> TaskContext:
    return TaskContext(**({"session": "s", "round": 0, "client": "me", "kind": "train"} | fields))


@pytest.mark.parametrize(
    ("budget", "parameters", "expected"),
    [(None, {}, 6), (None, {"epochs": 3}, 9), (1, {"epochs": 3}, 1), (3, {}, 3), (7, {"epochs": 1}, 7)],
)
def test_a_budget_wins_over_epochs(budget: int | None, parameters: dict[str, int], expected: int) -> None:
    steps = Steps(context(step_budget=budget, parameters=parameters), num_examples=25, steps_per_epoch=3, epochs=2)
    assert steps.planned == expected
    seen = [len(batch) for batch in steps.over(index_batches(25, 10, seed=1))]
    assert seen == ([10, 10, 5] * 3)[:expected]
    said = steps.metadata()
    assert (said["num_examples"], said["num_steps"]) == (25, expected)
    assert said["ms_per_epoch"] == pytest.approx(3 * said["ms_per_step"]) and said["ms_per_step"] > 0


def test_every_epoch_has_each_example_once_in_an_order_of_its_own() -> None:
    epoch = index_batches(25, 10, seed=1)
    first, second = ([int(i) for batch in epoch() for i in batch] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(25)) and first != second
    again = index_batches(25, 10, seed=1)
    assert [int(i) for batch in again() for i in batch] == first


def test_a_cancelled_task_ends_early_and_tells_how_far_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedn.learners.steps._LOOK_EVERY_S", 0.0)
    told: list[tuple[float, object]] = []
    task = context(
        step_budget=10,
        is_cancelled=lambda: len(told) == 3,
        report=lambda fraction, metrics: told.append((fraction, metrics)),
    )
    steps = Steps(task, num_examples=4, steps_per_epoch=4)
    assert len(list(steps.over(lambda: range(4), lambda: {"loss": 1.0}))) == 3
    assert told == [(0.1, {"loss": 1.0}), (0.2, {"loss": 1.0}), (0.3, {"loss": 1.0})]
    assert steps.metadata()["num_steps"] == 3


def test_data_that_ran_out_end_the_task() -> None:
    batches: Iterator[int] = iter([1, 2])
    steps = Steps(context(step_budget=5), num_examples=2, steps_per_epoch=2)
    assert list(steps.over(lambda: batches)) == [1, 2]


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


def test_a_site_without_examples_says_so() -> None:
    with pytest.raises(InvalidInput) as caught:
        Steps(context(), num_examples=0, steps_per_epoch=0)
    assert caught.value.code == "no_examples"
