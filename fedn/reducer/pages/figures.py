"""Figures for plotly, as plain JSON values: {"data": traces, "layout": layout}. Pure.

Colours are the page's own, by name ("var:--busy"): the browser puts in what they are in its theme.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedn.protocol.rest import RoundView
from fedn.reducer.pages.measures import Measured, Spread
from fedn.reducer.pages.timeline import PARTS, Timeline
from fedn.reducer.watching.vitals import Sample

Figure = dict[str, Any]

MAX_LINES = 30
"""Clients drawn one by one."""
_MOST_TICKS = 12
"""Of an axis of rounds."""
_COLOURS = {
    "waiting": "var:--idle",
    "dispatch": "var:--dispatch",
    "training": "var:--busy",
    "collecting": "var:--collecting",
    "aggregation": "var:--accent",
    "commit": "var:--commit",
    "other": "var:--line",
}


def mean_figure(found: Sequence[Spread], metric: str) -> Figure:
    """The mean over clients, in a band from the least to the greatest."""
    x = [one.round for one in found]
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "x": x}
    return _figure(
        [
            {**edge, "y": [one.most for one in found]},
            {
                **edge,
                "y": [one.least for one in found],
                "fill": "tonexty",
                "fillcolor": "var:--accent-soft",
                "name": "least to greatest",
                "showlegend": True,
            },
            {
                "x": x,
                "y": [one.mean for one in found],
                "customdata": [one.count for one in found],
                "mode": "lines+markers",
                "name": "mean by examples",
                "line": {"color": "var:--accent", "width": 2.5},
                "hovertemplate": "round %{x}<br>%{y:.5g}, %{customdata} clients<extra></extra>",
            },
        ],
        y=metric,
        hovermode="x",
    )


def box_figure(found: Sequence[Spread], metric: str) -> Figure:
    """The spread over clients, a box a round."""
    return _figure(
        [
            {
                "type": "box",
                "x": [one.round for one in found],
                "q1": [one.q1 for one in found],
                "median": [one.median for one in found],
                "q3": [one.q3 for one in found],
                "lowerfence": [one.low_fence for one in found],
                "upperfence": [one.high_fence for one in found],
                "mean": [one.mean for one in found],
                "line": {"color": "var:--busy", "width": 1.5},
                "fillcolor": "var:--busy-soft",
                "showlegend": False,
                "name": metric,
            }
        ],
        y=metric,
    )


def client_figure(measured: Sequence[Measured], metric: str) -> Figure:
    """A line for each client, for the first 30 by name."""
    names = sorted({client for one in measured for client in one.values(metric)})[:MAX_LINES]
    lines: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in names}
    for one in measured:
        for client, value in one.values(metric).items():
            if client in lines:
                lines[client][0].append(one.round)
                lines[client][1].append(value)
    traces = [
        {"x": x, "y": y, "mode": "lines+markers", "name": _plain(name), "line": {"width": 1.5}, "marker": {"size": 5}}
        for name, (x, y) in lines.items()
    ]
    return _figure(traces, y=metric)


def round_time_figure(rounds: Sequence[RoundView], parts: Callable[[RoundView], Mapping[str, float]]) -> Figure:
    """Wall time of each round, in its parts."""
    found = [(view.index + 1, parts(view)) for view in rounds]
    traces = [
        {
            "type": "bar",
            "x": [number for number, _ in found],
            "y": [round(times.get(part, 0.0), 6) for _, times in found],
            "name": part,
            "marker": {"color": _COLOURS[part]},
            "hovertemplate": f"round %{{x}}<br>{part} %{{y:.3g}} s<extra></extra>",
        }
        for part in (*PARTS, "other")
        if any(times.get(part) for _, times in found)
    ]
    return _figure(traces, y="seconds", barmode="stack")


def cpu_figure(samples: Mapping[str, Sequence[Sample]]) -> Figure:
    """Processor of the reducer and of each combiner, in percent of one core."""
    return _over_time(samples, lambda sample: sample.cpu_percent, "% of one core")


def memory_figure(samples: Mapping[str, Sequence[Sample]]) -> Figure:
    return _over_time(samples, lambda sample: round(sample.rss_bytes / (1 << 20), 1), "MiB")


def timeline_figure(chart: Timeline) -> Figure:
    """When each client of a round did what, in seconds since its start."""
    names = [_plain(row.entry.client) for row in chart.rows]
    scale = chart.total_s / max(sum(bar.width for bar in chart.parts), 1e-9)
    kinds = sorted({bar.part for row in chart.rows for bar in row.bars})
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": kind,
            "y": [name for name, row in zip(names, chart.rows, strict=True) for bar in row.bars if bar.part == kind],
            "base": [bar.x * scale for row in chart.rows for bar in row.bars if bar.part == kind],
            "x": [bar.seconds for row in chart.rows for bar in row.bars if bar.part == kind],
        }
        for kind in kinds
    ]
    figure = _figure(traces, y="", barmode="overlay")
    figure["layout"]["xaxis"] = {"title": {"text": "seconds"}}
    return figure


def table_figure(measured: Sequence[Measured], names: Sequence[str]) -> Figure:
    """The mean of each metric over clients, a line a round."""
    rows = [[one.mean(name) for one in measured] for name in names]
    return {
        "data": [
            {
                "type": "table",
                "header": {"values": ["round", *map(_plain, names)]},
                "cells": {"values": [[one.round for one in measured], *rows]},
            }
        ],
        "layout": {},
    }


def _over_time(samples: Mapping[str, Sequence[Sample]], value: Callable[[Sample], float], y: str) -> Figure:
    traces = [
        {
            "x": [dt.datetime.fromtimestamp(sample.time, dt.UTC).isoformat(timespec="seconds") for sample in found],
            "y": [value(sample) for sample in found],
            "mode": "lines",
            "name": _plain(name),
        }
        for name, found in samples.items()
    ]
    figure = _figure(traces, y=y, hovermode="x unified")
    figure["layout"]["xaxis"] = {"type": "date", "title": {"text": "UTC"}}
    return figure


def _figure(traces: list[dict[str, Any]], *, y: str, **layout: Any) -> Figure:
    rounds = {value for trace in traces for value in trace.get("x", ()) if isinstance(value, int)}
    few = (
        not rounds or max(rounds) - min(rounds) < _MOST_TICKS
    )  # left alone, Plotly divides these, and writes a round's number twice
    whole = {"title": {"text": "round"}, "tickformat": "d", **({"dtick": 1} if few else {"nticks": _MOST_TICKS})}
    axes = {"xaxis": whole, "yaxis": {"title": {"text": _plain(y)}, "rangemode": "normal"}}
    return {"data": traces, "layout": {**axes, **layout}}


def _plain(text: str) -> str:
    """Plotly reads a few tags in names; a name is only a name."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
