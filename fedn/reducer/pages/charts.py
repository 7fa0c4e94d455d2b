"""Charts of metrics over rounds: the points and labels of an SVG that a page draws without a script."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 140
"""Of the drawing, in units of its view box."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 20
_FIRST = ("accuracy", "loss")
MAX_CHARTS = 4


@dataclass(frozen=True)
class Chart:
    """One metric over rounds."""

    name: str
    points: tuple[tuple[float, float], ...]
    low: float
    high: float
    first: int
    last: int
    latest: float

    @property
    def line(self) -> str:
        """For `points` of a polyline."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of metrics, accuracy and loss first."""
    return sorted(set(names), key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def charts(series: Mapping[int, Mapping[str, float]]) -> list[Chart]:
    """A chart for each of the first metrics of `series`, number to metrics, that has two values at least."""
    names = in_order(name for values in series.values() for name in values)[:MAX_CHARTS]
    return [made for name in names if (made := _chart(name, series)) is not None]


def _chart(name: str, series: Mapping[int, Mapping[str, float]]) -> Chart | None:
    values = [
        (number, found[name]) for number, found in sorted(series.items()) if math.isfinite(found.get(name, math.nan))
    ]
    if len(values) < 2:
        return None
    numbers, heights = [number for number, _ in values], [value for _, value in values]
    low, high = min(heights), max(heights)
    spread = high / 2 - low / 2  # halved: the difference of two huge numbers is none
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    points = tuple(
        (
            round(_LEFT + wide * (number - numbers[0]) / (numbers[-1] - numbers[0]), 1),
            round(_TOP + tall * ((high / 2 - value / 2) / spread if spread > 0 else 0.5), 1),
        )
        for number, value in values
    )
    return Chart(name, points, low, high, numbers[0], numbers[-1], heights[-1])
