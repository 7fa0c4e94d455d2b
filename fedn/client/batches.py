"""The steps of a training task, over shuffled mini-batches or other items, and what is said of them afterwards."""

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from fedn.protocol.errors import InvalidInput

Item = TypeVar("Item")


class Steps:
    """As many steps as a task is to make: so many epochs, or what the federation asks for; counted and timed.

    A step is what happens between one item of `over` and the next. `len` is the number of steps that are to be made.

    Args:
        num_examples: that are trained on, > 0: the update's weight.
        steps_per_epoch: > 0.
        epochs: > 0, where there is no budget.
        step_budget: steps to make instead, more or fewer than an epoch; None: no budget.

    Raises:
        InvalidInput: (`bad_parameter`) a number is not above 0.
    """

    def __init__(self, num_examples: int, steps_per_epoch: int, epochs: int, *, step_budget: int | None) -> None:
        _check_counts(num_examples=num_examples, steps_per_epoch=steps_per_epoch, epochs=epochs)
        self._num_examples = num_examples
        self._steps_per_epoch = steps_per_epoch
        self._steps = epochs * steps_per_epoch if step_budget is None else step_budget
        self._spent_s = 0.0
        self.steps = 0
        """That were made so far."""

    def __len__(self) -> int:
        return self._steps

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The first ones of the items, one a step; ends early where they do."""
        for item in items:
            if self.steps == self._steps:
                return
            started = perf_counter()
            yield item
            self._spent_s += perf_counter() - started
            self.steps += 1

    def metadata(self) -> dict[str, Any]:
        """What `Learner.train` returns beside weights and metrics: the update's weight, its steps, and their times."""
        ms_per_step = self._spent_s * 1000 / self.steps if self.steps else 0.0
        return {
            "num_examples": self._num_examples,
            "num_steps": self.steps,
            "ms_per_step": ms_per_step,
            "ms_per_epoch": ms_per_step * self._steps_per_epoch,
        }


class Batches(Steps):
    """Goes over the examples epoch by epoch, each in a new order.

    To be iterated once: each item is an int64 array with the indices of a step's examples.

    Args:
        num_examples: there are, > 0.
        batch_size: examples of a step, > 0; the last one of an epoch may have fewer.
        epochs, step_budget: as of `Steps`.
        seed: of the order.

    Raises:
        InvalidInput: (`bad_parameter`) a number is not above 0.
    """

    def __init__(self, num_examples: int, batch_size: int, epochs: int, *, step_budget: int | None, seed: int) -> None:
        _check_counts(num_examples=num_examples, batch_size=batch_size, epochs=epochs)
        super().__init__(num_examples, -(-num_examples // batch_size), epochs, step_budget=step_budget)
        self._batch_size = batch_size
        self._draw = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.over(self._endless())

    def _endless(self) -> Iterator[np.ndarray]:
        while True:
            order = self._draw.permutation(self._num_examples)
            for start in range(0, self._num_examples, self._batch_size):
                yield order[start : start + self._batch_size]


def _check_counts(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise InvalidInput(
                "bad_parameter",
                f"{name} must be at least 1, not {value}",
                fix="Look at the parameters of the plan, and at this site's data.",
                where={"field": name},
            )
