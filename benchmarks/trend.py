"""Whether something grows: a robust slope over the second half of what was sampled, and a verdict. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_POINTS = 400
"""A slope is taken over all pairs: more points than this are thinned out evenly."""


@dataclass(frozen=True)
class Limit:
    """What may be gained over the second half of a run: noise, not growth."""

    absolute: float
    relative: float = 0.0
    """Beside it, as a part of the median."""

    def of(self, median: float) -> float:
        return max(self.absolute, self.relative * median)


@dataclass(frozen=True)
class Trend:
    """The second half of a series of samples."""

    first: float
    """First sample of the whole series."""
    median: float
    last: float
    slope: float
    """Per unit of x."""
    growth: float
    """What the slope makes of the second half: slope · its length."""


def theil_sen(x: Sequence[float], y: Sequence[float]) -> float:
    """The median of the slopes between all pairs of points (Theil 1950, Sen 1968): outliers up to 29 % do not move it.

    Args:
        x: not falling; pairs of equal x count for nothing.
        y: as many.

    Returns:
        0 where no two points differ in x.
    """
    places = np.unique(np.linspace(0, max(0, len(x) - 1), min(len(x), _MOST_POINTS)).astype(np.int64))
    at: npt.NDArray[np.float64] = np.asarray(x, np.float64)[places]
    values: npt.NDArray[np.float64] = np.asarray(y, np.float64)[places]
    earlier, later = np.triu_indices(len(at), 1)
    run = at[later] - at[earlier]
    apart = run > 0
    if not apart.any():
        return 0.0
    return float(np.median((values[later] - values[earlier])[apart] / run[apart]))


def trend_of(x: Sequence[float], y: Sequence[float]) -> Trend:
    """Of samples in the order in which they were taken.

    Raises:
        ValueError: fewer than four samples, or not as many x as y.
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(f"a trend needs at least four samples, each with its place: {len(x)} and {len(y)}")
    half = len(x) // 2
    slope = theil_sen(x[half:], y[half:])
    return Trend(
        first=y[0],
        median=float(np.median(np.asarray(y[half:], np.float64))),
        last=y[-1],
        slope=slope,
        growth=slope * (x[-1] - x[half]),
    )
