"""Results files as plots: `python -m benchmarks plots FILE… --to docs/images/performance` writes SVG files.

Each plot is made of the rows of one benchmark, and only where there are some. The same rows give the same bytes.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.convergence import plots as convergence
from benchmarks.counts import format_count
from benchmarks.figures import legend_of, panels_of
from benchmarks.housing import FIGURES
from benchmarks.results import Row
from benchmarks.tables import read_all

_COLOURS = {
    "fedn, TLS": "#00796b",
    "fedn, no TLS": "#80cbc4",
    "flower": "#e65100",
    "nvflare": "#5e35b1",
    "floor": "#9e9e9e",
}


def rounds_plot(rows: Sequence[Row]) -> Figure | None:
    """Seconds a round by number of clients, one panel for each size of the model, and the floor of each cell."""
    floors = [{**row, "system": "floor"} for row in rows if row.get("tls")]
    return _lines(_series(rows, "round_s") | _series(floors, "floor_s"), "seconds a round")


def memory_plot(rows: Sequence[Row]) -> Figure | None:
    """Peak memory of the server that clients talk to, one panel for each size of the model."""
    return _lines(_series(rows, "server_rss_mb"), "peak memory of the server, MiB")


def parts_plot(rows: Sequence[Row]) -> Figure | None:
    """Processor time a round by kind of program, for each cell."""
    cells = [row for row in rows if row["bench"] == "rounds" and row.get("cpu_s") and row["tls"]]
    if not cells:
        return None
    latest = {(row["params"], row["clients"], row["combiners"]): row for row in cells}
    labels = [
        f"{format_count(params)} × {clients}" + (f", {combiners} combiners" if combiners > 1 else "")
        for params, clients, combiners in sorted(latest)
    ]
    kinds = list(dict.fromkeys(kind for row in cells for kind in row["cpu_s"]))
    figure, (panel,) = panels_of(1, width=7.0)
    left = [0.0] * len(labels)
    for kind in kinds:
        shares = []
        for cell in sorted(latest):
            total = sum(latest[cell]["cpu_s"].values())
            shares.append(100 * latest[cell]["cpu_s"].get(kind, 0.0) / total if total else 0.0)
        panel.barh(labels, shares, left=left, label=kind)
        left = [before + share for before, share in zip(left, shares, strict=True)]
    panel.set_xlabel("% of a round's processor time")
    panel.invert_yaxis()
    legend_of(figure, [panel])
    return figure


def aggregation_plot(rows: Sequence[Row]) -> Figure | None:
    """A fold of K updates beside the memory floor."""
    own = _latest(rows, "aggregation", ("params", "updates", "sum_dtype", "weight"))
    return _bars(
        [f"{row['sum_dtype']}, weight {row['weight']:g}" for row in own],
        {"fold": [row["fold_ms"] for row in own], "memory floor": [row["fold_floor_ms"] for row in own]},
        "ms for all updates",
    )


def data_plane_plot(rows: Sequence[Row]) -> Figure | None:
    """GB/s down and up beside raw gRPC's."""
    own = [row for row in _latest(rows, "data_plane", ("params", "clients", "tls")) if row["tls"]]
    return _bars(
        [f"{format_count(row['params'])} × {row['clients']}" for row in own],
        {
            "down": [row["down_gb_s"] for row in own],
            "raw gRPC down": [row["raw_down_gb_s"] for row in own],
            "up": [row["up_gb_s"] for row in own],
            "raw gRPC up": [row["raw_up_gb_s"] for row in own],
        },
        "GB/s, TLS",
    )


def relay_plot(rows: Sequence[Row]) -> Figure | None:
    """Small messages a second beside raw gRPC's."""
    own = [row for row in _latest(rows, "relay", ("kind", "streams", "tls")) if row["tls"]]
    return _bars(
        [f"{row['kind']}, {row['streams']} streams" for row in own],
        {"through a combiner": [row["per_s"] for row in own], "raw gRPC": [row["raw_per_s"] for row in own]},
        "messages a second, TLS",
    )


def idle_plot(rows: Sequence[Row]) -> Figure | None:
    """Memory a client of idle ones, beside a raw gRPC server's."""
    own = [row for row in _latest(rows, "idle", ("clients", "tls", "per_connection")) if row["tls"]]
    raw = {"raw gRPC": [row.get("raw_kb_per_client", 0.0) for row in own]}
    return _bars(
        [f"{format_count(row['clients'])} clients" for row in own],
        {"combiner": [row["kb_per_client"] for row in own]} | (raw if any(raw["raw gRPC"]) else {}),
        "kB a client, TLS",
    )


def stores_plot(rows: Sequence[Row]) -> Figure | None:
    """MB/s of puts and gets of models."""
    own = [row for row in _latest(rows, "stores", ("store", "size_bytes")) if "put_mb_s" in row]
    figure = _bars(
        [f"{row['store']}, {format_count(row['size_bytes'])}B" for row in own],
        {"put": [row["put_mb_s"] for row in own], "get": [row["get_mb_s"] for row in own]},
        "MB/s",
    )
    if figure is not None:
        figure.axes[0].set_yscale("log")
    return figure


def housing_plot(rows: Sequence[Row]) -> Figure | None:
    """The six figures of the HousingMLP workload."""
    own = [row for row in _latest(rows, "housing", ("size", "clients", "combiners", "tls")) if row["tls"]]
    return _bars(
        [name.replace("_", "\n") for name in FIGURES],
        {f"{row['size']} × {row['clients']}": [row[f"{name}_s"] for name in FIGURES] for row in own},
        "seconds",
    )


PLOTS: Mapping[str, Callable[[Sequence[Row]], Figure | None]] = {
    "rounds": rounds_plot,
    "memory": memory_plot,
    "processors": parts_plot,
    "aggregation": aggregation_plot,
    "data-plane": data_plane_plot,
    "relay": relay_plot,
    "idle": idle_plot,
    "stores": stores_plot,
    "housing": housing_plot,
    **convergence.PLOTS,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `main`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks plots", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as --out wrote them")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the plots go")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    try:
        rows = read_all(given.files)
    except (OSError, ValueError) as error:
        print(f"the results cannot be read: {error}", file=sys.stderr)
        return 1
    given.to.mkdir(parents=True, exist_ok=True)
    for name, plot in PLOTS.items():
        figure = plot(rows)
        if figure is not None:
            target = given.to / f"{name}.svg"
            figure.savefig(target, metadata={"Date": None})
            print(target)
    return 0


Line = Mapping[int, float]
"""Clients to a figure."""


def _series(rows: Sequence[Row], key: str) -> dict[tuple[int, str], Line]:
    """(parameters, system) to its line, with one combiner; several runs of a cell count by their median."""
    values: dict[tuple[int, str], dict[int, list[float]]] = {}
    for row in rows:
        if row["bench"] == "rounds" and key in row and row.get("combiners", 1) == 1 and not row.get("plan"):
            line = values.setdefault((row["params"], _system(row)), {})
            line.setdefault(row["clients"], []).append(row[key])
    return {
        place: {clients: statistics.median(found) for clients, found in sorted(line.items())}
        for place, line in values.items()
    }


def _system(row: Row) -> str:
    if row["system"] == "fedn":
        return "fedn, TLS" if row["tls"] else "fedn, no TLS"
    return str(row["system"]).partition("-")[0]


def _latest(rows: Sequence[Row], bench: str, keys: Sequence[str]) -> list[Row]:
    """The last row of each cell, in the order in which cells came first."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row["bench"] == bench:
            found[tuple(row.get(key) for key in keys)] = row
    return list(found.values())


def _lines(series: Mapping[tuple[int, str], Line], unit: str) -> Figure | None:
    """A panel for each size of the model with the lines of all systems; None where there is nothing to show."""
    sizes = sorted({params for params, _ in series})
    if not sizes:
        return None
    figure, panels = panels_of(len(sizes))
    for panel, params in zip(panels, sizes, strict=True):
        for (size, name), line in sorted(series.items()):
            if size == params:
                style = "--" if name == "floor" else "-"
                colour = _COLOURS.get(name)
                panel.plot(list(line), list(line.values()), style, marker="o", ms=3, label=name, color=colour)
        panel.set_title(f"{format_count(params)} parameters")
        panel.set_xlabel("clients")
        panel.set_yscale("log")
    panels[0].set_ylabel(unit)
    legend_of(figure, panels)
    return figure


def _bars(labels: Sequence[str], groups: Mapping[str, Sequence[float]], unit: str) -> Figure | None:
    """Groups of bars side by side; None where there is nothing to show."""
    if not labels or not groups:
        return None
    figure, (panel,) = panels_of(1, width=max(4.0, 1.1 * len(labels)))
    width = 0.8 / len(groups)
    for place, (name, values) in enumerate(groups.items()):
        offsets = [index + (place - (len(groups) - 1) / 2) * width for index in range(len(labels))]
        panel.bar(offsets, values, width, label=name)
    panel.set_xticks(range(len(labels)), [label.replace(", ", ",\n") for label in labels])
    panel.set_ylabel(unit)
    legend_of(figure, [panel])
    return figure
