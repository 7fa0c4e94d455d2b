"""What learners of all frameworks do with a task: its parameters, and the watch over its steps. Knows no framework."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, TypeVar

from fedn.client.batches import Steps
from fedn.client.learner import Metrics, TaskContext
from fedn.protocol.errors import InvalidInput

Item = TypeVar("Item")

_LOOK_EVERY_S = 0.5
"""So often it is looked whether the task was cancelled, and told how far it is."""


def watched(
    context: TaskContext, steps: Steps, items: Iterable[Item], so_far: Callable[[], Metrics] = dict
) -> Iterator[Item]:
    """The items of the task's steps; ends early where the task is cancelled.

    Args:
        steps: that the items are counted by.
        so_far: metrics to tell, asked for now and then, after one step at least.
    """
    looked = perf_counter()
    for item in items:
        now = perf_counter()
        if steps.steps and now - looked >= _LOOK_EVERY_S:
            looked = now
            context.report(steps.steps / len(steps), so_far())
            if context.is_cancelled():
                return
        yield item


def repeated(epoch: Iterable[Item]) -> Iterator[Item]:
    """The items of one epoch after the other, for ever; ends where an epoch has none."""
    while True:
        empty = True
        for item in epoch:
            empty = False
            yield item
        if empty:
            return


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
