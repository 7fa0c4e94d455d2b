"""Plots of the study: learning curves over rounds and over time, and idle time. For `python -m benchmarks plots`."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.convergence import methods, schedulers
from benchmarks.figures import legend_of, panels_of
from benchmarks.results import Row

_ROUND, _SECONDS = 0, 1
_FLOOR = 0.4
"""Below it, all curves are alike: steep."""
_IN_A_ROW = len(methods.SETTINGS)
"""Panels of the algorithms: a row for each data set."""
_STEPS = 200
"""Places along an axis at which curves of several seeds are averaged."""


def time_plot(rows: Sequence[Row]) -> Figure | None:
    """Schedulers: accuracy over rounds, and over wall-clock, for each data set."""
    own = _rows(rows, schedulers.BENCH)
    if not own:
        return None
    sets = list(dict.fromkeys(row["data"] for row in own))
    figure, panels = panels_of(2 * len(sets), width=3.6)
    for place, data in enumerate(sets):
        of_it = [row for row in own if row["data"] == data]
        by_round, by_time = panels[2 * place : 2 * place + 2]
        _curves(by_round, of_it, _ROUND)
        by_round.set_xscale("log")
        by_round.set_title(f"{data}: over rounds")
        by_round.set_xlabel("rounds (commits)")
        _curves(by_time, of_it, _SECONDS)
        by_time.set_title(f"{data}: over time")
        by_time.set_xlabel("seconds")
    panels[0].set_ylabel("accuracy")
    legend_of(figure, panels)
    return figure


def idle_plot(rows: Sequence[Row]) -> Figure | None:
    """Schedulers: how much of its time each client is idle, by its slowness."""
    own = _rows(rows, schedulers.BENCH)
    if not own:
        return None
    sets = list(dict.fromkeys(row["data"] for row in own))
    figure, panels = panels_of(len(sets), width=5.0)
    for panel, data in zip(panels, sets, strict=True):
        of_it = [row for row in own if row["data"] == data]
        names = list(dict.fromkeys(row["name"] for row in of_it))
        for place, name in enumerate(names):
            shares = _idle_by_slowness([row for row in of_it if row["name"] == name])
            offsets = np.arange(len(shares)) + (place - (len(names) - 1) / 2) * 0.8 / len(names)
            panel.bar(offsets, list(shares.values()), 0.8 / len(names), label=name)
            panel.set_xticks(range(len(shares)), [f"{slowness:g}×" for slowness in shares])
        panel.set_title(data)
        panel.set_xlabel("time of a step at the site")
    panels[0].set_ylabel("% of its time that a client is idle")
    legend_of(figure, panels)
    return figure


def methods_plot(rows: Sequence[Row]) -> Figure | None:
    """Algorithms: accuracy over rounds, a panel for each data set and setting."""
    own = _rows(rows, methods.BENCH)
    places = list(dict.fromkeys((row["data"], row["setting"]) for row in own))
    if not places:
        return None
    figure, panels = panels_of(len(places), width=3.8, columns=_IN_A_ROW)
    for panel, (data, setting) in zip(panels, places, strict=True):
        _curves(panel, [row for row in own if (row["data"], row["setting"]) == (data, setting)], _ROUND)
        panel.set_title(f"{data}: {setting}")
        panel.set_xlabel("rounds")
    for panel in panels[::_IN_A_ROW]:
        panel.set_ylabel("accuracy")
    legend_of(figure, panels)
    return figure


PLOTS: Mapping[str, Callable[[Sequence[Row]], Figure | None]] = {
    "schedulers": time_plot,
    "idle-clients": idle_plot,
    "methods": methods_plot,
}


def _rows(rows: Sequence[Row], bench: str) -> list[Row]:
    return [row for row in rows if row["bench"] == bench]


def _curves(panel: Axes, rows: Sequence[Row], axis: int) -> None:
    """The mean over the seeds for each name, and a band from the least to the most of them."""
    panel.set_ylim(_FLOOR, 1.0)
    for name in dict.fromkeys(row["name"] for row in rows):
        curves = [np.array(row["curve"]) for row in rows if row["name"] == name]
        # Only where all seeds have something to say.
        first, last = (pick(curve[at, axis] for curve in curves) for pick, at in ((max, 0), (min, -1)))
        grid = np.geomspace(first, last, _STEPS) if axis == _ROUND else np.linspace(first, last, _STEPS)
        values = np.array([np.interp(grid, curve[:, axis], curve[:, 2]) for curve in curves])
        (line,) = panel.plot(grid, values.mean(axis=0), label=name, lw=1.2)
        panel.fill_between(grid, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.12, lw=0)


def _idle_by_slowness(rows: Sequence[Row]) -> dict[float, float]:
    """Slowness to the percentage of time, over the clients that are so slow and over all rows."""
    found: dict[float, list[float]] = {}
    for row in rows:
        for client, idle_s in row["idle_s"].items():
            share = 100 * idle_s / row["window_s"]
            found.setdefault(schedulers.slowness_of(row, client), []).append(share)
    return {factor: float(np.mean(shares)) for factor, shares in sorted(found.items())}
