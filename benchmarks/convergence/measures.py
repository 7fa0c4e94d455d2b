"""Figures of learning curves: when a target is reached, how steady they are, and means with their spread. Pure."""

import itertools
import statistics
from collections.abc import Sequence

Curve = Sequence[Sequence[float]]
"""(round, seconds, accuracy) of each judged model, in their order."""


def time_to(curve: Curve, target: float) -> float | None:
    """Seconds to the first model that is at least so accurate; None where there is none."""
    return next((seconds for _, seconds, accuracy in curve if accuracy >= target), None)


def rounds_to(curve: Curve, target: float) -> int | None:
    """Rounds to the first such model."""
    return next((int(index) for index, _, accuracy in curve if accuracy >= target), None)


def late_accuracy(curve: Curve) -> float:
    """The mean over the last quarter of the models: single ones go up and down."""
    tail = curve[-max(1, len(curve) // 4) :]
    return statistics.fmean(accuracy for _, _, accuracy in tail)


def unsteadiness(curve: Curve) -> float:
    """How much the accuracy falls from one model to the next, on average over the second half; a rise counts as 0."""
    tail = [accuracy for _, _, accuracy in curve[len(curve) // 2 :]]
    falls = [max(0.0, before - after) for before, after in itertools.pairwise(tail)]
    return statistics.fmean(falls) if falls else 0.0


def mean_and_spread(values: Sequence[float], *, digits: int) -> str:
    """`81.2 ± 0.7`, with the standard deviation over the values; the mean alone where there is one value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"
