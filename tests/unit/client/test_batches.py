"""Batches keep to a step budget, go over all examples, and measure what they took."""

import numpy as np
import pytest

from fedn.client.batches import Batches
from fedn.client.learner import TaskContext
from fedn.protocol.errors import InvalidInput


def context(step_budget: int | None = None) -> TaskContext:
    return TaskContext(session="s", round=0, client="me", kind="train", step_budget=step_budget, seed=3)


def test_without_a_budget_every_epoch_shows_every_example_once_in_another_order():
    batches = context().batches(10, 4, epochs=2)
    assert len(batches) == 6
    found = [batch.tolist() for batch in batches]
    assert [len(batch) for batch in found] == [4, 4, 2, 4, 4, 2]
    first, second = ([at for batch in epoch for at in batch] for epoch in (found[:3], found[3:]))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert found == [batch.tolist() for batch in context().batches(10, 4, epochs=2)]


@pytest.mark.parametrize("budget", [1, 3, 7, 25])
def test_a_budget_is_kept_to_be_it_less_or_more_than_an_epoch(budget):
    batches = context(budget).batches(10, 4, epochs=2)
    assert len(list(batches)) == len(batches) == batches.steps == budget
    assert batches.metadata()["num_steps"] == budget


def test_the_metadata_are_what_schedulers_go_by(monkeypatch):
    clock = iter(np.arange(100) * 0.25)
    monkeypatch.setattr("fedn.client.batches.perf_counter", lambda: float(next(clock)))
    batches = context(5).batches(10, 4)
    list(batches)
    assert batches.metadata() == {"num_examples": 10, "num_steps": 5, "ms_per_step": 250.0, "ms_per_epoch": 750.0}


def test_a_training_that_breaks_off_says_how_far_it_came():
    batches = context().batches(10, 1, epochs=3)
    for _ in batches:
        if batches.steps == 4:
            break
    assert batches.metadata()["num_steps"] == 4


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_to_go_over_is_refused(numbers):
    with pytest.raises(InvalidInput, match="at least 1"):
        Batches(*numbers, step_budget=None, seed=0)
