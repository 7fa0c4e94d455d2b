"""A picture of a topology, by matplotlib, which is an extra (`pip install fedn[plot]`); no display is used."""

import math
from typing import Any

import numpy as np

from fedn.protocol.errors import InvalidInput


def draw(matrix: np.ndarray[Any, np.dtype[np.float32]], path: str) -> None:
    """Draws nodes on a circle and their links as arrows, thicker where the weight is larger.

    Args:
        matrix: (n, n) weights.
        path: of the file; its suffix says the format.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput(
            "plot_needs_matplotlib", "matplotlib is not installed", fix="pip install matplotlib (or fedn[plot])."
        ) from error
    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    n = len(matrix)
    places = [(math.sin(2 * math.pi * i / n), math.cos(2 * math.pi * i / n)) for i in range(n)]
    for sender in range(n):
        for receiver in range(n):
            if sender != receiver and matrix[sender, receiver] > 0:
                _arrow(axes, places[sender], places[receiver], float(matrix[sender, receiver]))
    axes.scatter([x for x, _ in places], [y for _, y in places], s=400, color="#009688", zorder=2)
    for index, place in enumerate(places):
        axes.annotate(str(index), place, ha="center", va="center", color="white", zorder=3)
    axes.margins(0.15)
    figure.savefig(path)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], weight: float) -> None:
    # Bent a little, so that the two directions of a pair can be told apart.
    style = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=0.08", "shrinkA": 11, "shrinkB": 11, "color": "#607d8b"}
    axes.annotate("", xy=end, xytext=start, arrowprops={**style, "linewidth": 0.5 + 3 * weight}, zorder=1)
