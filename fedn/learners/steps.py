"""The steps of a training task: as many as the federation asks for, counted and timed. Knows no framework."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from fedn.client.learner import Metrics, TaskContext
from fedn.protocol.errors import InvalidInput

Batch = TypeVar("Batch")

_LOOK_EVERY_S = 0.5
"""So often it is looked whether the task was cancelled, and told how far it is."""


class Steps:
    """Goes over epochs of batches until the step budget is used up, or else until so many epochs are done.

    A step is what happens between one batch and the next. To be iterated once, by `over`.

    Args:
        context: of the task; its parameter `epochs` wins over the default.
        num_examples: that the site trains on, > 0.
        steps_per_epoch: > 0.
        epochs: by default, > 0.

    Raises:
        InvalidInput: (`bad_parameter`) `epochs` is no whole number above 0; (`no_examples`) the site has no data.
    """

    def __init__(self, context: TaskContext, *, num_examples: int, steps_per_epoch: int, epochs: int = 1) -> None:
        if num_examples < 1 or steps_per_epoch < 1:
            raise InvalidInput(
                "no_examples",
                f"the site trains on {num_examples} examples, in {steps_per_epoch} batches an epoch",
                fix="Look at the site's data path, and at drop_last and batch_size.",
                where={"client": context.client},
            )
        self._context = context
        self._num_examples = num_examples
        self._steps_per_epoch = steps_per_epoch
        self._planned = whole_parameter(context, "epochs", epochs) * steps_per_epoch
        if context.step_budget is not None:
            self._planned = context.step_budget
        self._spent_s = 0.0
        self.done = 0
        """Steps that were made so far."""

    @property
    def planned(self) -> int:
        """Steps that are to be made."""
        return self._planned

    def over(self, epoch: Callable[[], Iterable[Batch]], so_far: Callable[[], Metrics] = dict) -> Iterator[Batch]:
        """The batches of one epoch after the other. Ends early where the task is cancelled.

        Args:
            epoch: the batches of an epoch, asked for anew for each.
            so_far: metrics to tell, asked for now and then.
        """
        looked = perf_counter()
        for batch in self._endless(epoch):
            if self.done >= self._planned:
                return
            started = perf_counter()
            yield batch
            now = perf_counter()
            self._spent_s += now - started
            self.done += 1
            if now - looked >= _LOOK_EVERY_S:
                looked = now
                self._context.report(self.done / self._planned, so_far())
                if self._context.is_cancelled():
                    return

    def metadata(self) -> dict[str, Any]:
        """What `Learner.train` returns beside weights and metrics: the update's weight, its steps, and their times."""
        ms_per_step = self._spent_s * 1e3 / self.done if self.done else 0.0
        return {
            "num_examples": self._num_examples,
            "num_steps": self.done,
            "ms_per_step": ms_per_step,
            "ms_per_epoch": ms_per_step * self._steps_per_epoch,
        }

    def _endless(self, epoch: Callable[[], Iterable[Batch]]) -> Iterator[Batch]:
        while True:
            empty = True
            for batch in epoch():
                empty = False
                yield batch
            if empty:
                return


def index_batches(num_examples: int, batch_size: int, seed: int) -> Callable[[], Iterator[np.ndarray]]:
    """Makes the epochs of an array's examples: int64 indices, in a new order each; all of it follows from the seed."""
    draw = np.random.default_rng(seed)

    def epoch() -> Iterator[np.ndarray]:
        order = draw.permutation(num_examples)
        for start in range(0, num_examples, batch_size):
            yield order[start : start + batch_size]

    return epoch


def whole_parameter(context: Mapping[str, Any], name: str, default: int) -> int:
    """A parameter of the plan that counts something. InvalidInput (`bad_parameter`) where it does not."""
    value = context.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInput(
            "bad_parameter",
            f"{name} must be a whole number of at least 1, not {value!r}",
            fix=f"Write parameters: {{{name}: {default}}} in the plan.",
            where={"field": f"parameters.{name}"},
        )
    return value


def rate_parameter(context: Mapping[str, Any]) -> float | None:
    """The plan's `learning_rate`; None where it leaves that to the site. InvalidInput (`bad_parameter`)."""
    value = context.get("learning_rate")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidInput(
            "bad_parameter",
            f"learning_rate must be a number above 0, not {value!r}",
            fix="Write parameters: {learning_rate: 0.1} in the plan, or leave it out.",
            where={"field": "parameters.learning_rate"},
        )
    return float(value)
