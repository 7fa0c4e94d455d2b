"""Shuffled mini-batches for as many steps as a task is to make, and what a learner says of them afterwards."""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np

from fedn.protocol.errors import InvalidInput


class Batches:
    """Goes over the examples epoch by epoch, each in a new order, and measures how long its steps take.

    To be iterated once: each item is an int64 array with the indices of a step's examples. A step is what happens
    between one item and the next. `len` is the number of steps that are to be made.

    Args:
        num_examples: there are, > 0.
        batch_size: examples of a step, > 0; the last one of an epoch may have fewer.
        epochs: how often to go over all of them, > 0, where there is no budget.
        step_budget: steps to make instead, more or fewer than an epoch; None: no budget.
        seed: of the order.

    Raises:
        InvalidInput: (`bad_parameter`) a number is not above 0.
    """

    def __init__(self, num_examples: int, batch_size: int, epochs: int, *, step_budget: int | None, seed: int) -> None:
        numbers = {"num_examples": num_examples, "batch_size": batch_size, "epochs": epochs}
        for name, value in numbers.items():
            if value < 1:
                raise InvalidInput(
                    "bad_parameter",
                    f"{name} must be at least 1, not {value}",
                    fix="Look at the parameters of the plan, and at this site's data.",
                    where={"field": name},
                )
        self._num_examples = num_examples
        self._batch_size = batch_size
        self._steps_per_epoch = -(-num_examples // batch_size)
        self._steps = epochs * self._steps_per_epoch if step_budget is None else step_budget
        self._draw = np.random.default_rng(seed)
        self._spent_s = 0.0
        self.steps = 0
        """That were made so far."""

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[np.ndarray]:
        for batch in self._endless():
            if self.steps == self._steps:
                return
            started = perf_counter()
            yield batch
            self._spent_s += perf_counter() - started
            self.steps += 1

    def _endless(self) -> Iterator[np.ndarray]:
        while True:
            order = self._draw.permutation(self._num_examples)
            for start in range(0, self._num_examples, self._batch_size):
                yield order[start : start + self._batch_size]

    def metadata(self) -> dict[str, Any]:
        """What `Learner.train` returns beside weights and metrics: the update's weight, its steps, and their times."""
        ms_per_step = self._spent_s * 1000 / self.steps if self.steps else 0.0
        return {
            "num_examples": self._num_examples,
            "num_steps": self.steps,
            "ms_per_step": ms_per_step,
            "ms_per_epoch": ms_per_step * self._steps_per_epoch,
        }
