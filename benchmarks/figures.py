"""How every plot looks, and what they are put together from. SVG, and the same bytes for the same content."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("svg")
matplotlib.rcParams |= {
    "svg.hashsalt": "fedn",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}

_LEGEND_COLUMN_IN = 1.8
"""Inches that a name takes, with its line."""


def panels_of(count: int, width: float = 3.2, *, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, each `width` inches wide: in one row, or in rows of `columns`."""
    columns = min(count, columns or count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, 3.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def legend_of(figure: Figure, panels: Sequence[Axes]) -> None:
    """One for all panels, without repetitions."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    fit = max(1, int(figure.get_figwidth() / _LEGEND_COLUMN_IN))
    figure.legend(handles=list(found.values()), loc="outside lower center", ncols=min(6, fit, len(found)))
