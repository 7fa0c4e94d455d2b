"""Schedulers on sites of different speeds: what waiting costs, and what it buys.

Every session gets the same wall-clock time. A step takes at least `step_ms` times the site's slowness, most of which
is a wait, so that how busy the machine is that all sites share hardly shows.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.convergence.federation import Federation
from benchmarks.convergence.measures import mean_and_spread, time_to
from benchmarks.convergence.record import Record
from benchmarks.results import Row, markdown, say

BENCH = "convergence_schedulers"
ALPHA = 0.3
EPOCHS = 4
_SLOWNESS = (1.0, 1.0, 2.0, 4.0, 8.0)
"""Of the sites, by turns."""
_MOST_ROUNDS = 100_000
"""The time ends a session."""
_STALENESS = {"name": "polynomial", "a": 0.5}


@dataclass(frozen=True)
class Pace:
    """How a problem is trained here."""

    step_ms: float
    learning_rate: float
    seconds: float
    """Of a session."""
    target: float
    """Accuracy, the time to which is told."""


PACES = {
    "digits": Pace(step_ms=5.0, learning_rate=0.1, seconds=30.0, target=0.85),
    "fashion": Pace(step_ms=8.0, learning_rate=0.05, seconds=45.0, target=0.70),
}


def arms(clients: int) -> dict[str, dict[str, Any]]:
    """The schedulers by their names in records and tables, as a plan has them."""
    half = max(2, clients // 2)
    semi = {
        f"semi-synchronous λ={epochs}": {"name": "semi_synchronous", "options": {"lambda": epochs}}
        for epochs in (1, 2, 4)
    }
    return {
        "synchronous": {"name": "synchronous"},
        **semi,
        # One update at a time: with a rate of 1 each would replace the model by one site's.
        "asynchronous K=1": _asynchronous(arrivals=1, learning_rate=0.2),
        f"asynchronous K={half}": _asynchronous(arrivals=half, learning_rate=1.0),
    }


def run(
    federation: Federation,
    data: str,
    record: Record,
    *,
    names: Collection[str],
    seeds: Sequence[int],
    seconds: float | None,
) -> None:
    """A row for each scheduler and seed.

    Args:
        names: of `arms`; others are nobody's here.
        seconds: of each session; None: the problem's own.
    """
    pace = PACES[data] if seconds is None else replace(PACES[data], seconds=seconds)
    for seed in seeds:
        for name, scheduler in arms(federation.clients).items():
            if name in names:
                head = {
                    "bench": BENCH,
                    "data": data,
                    "name": name,
                    "seed": seed,
                    "clients": federation.clients,
                    "scheduler": scheduler,
                    "seconds": pace.seconds,
                    "step_ms": pace.step_ms,
                    "learning_rate": pace.learning_rate,
                }
                row = record.row(head, partial(_session, federation, scheduler, pace, seed))
                say(
                    f"{data}, {name}, seed {seed}: {row['curve'][-1][2]:.3f}, idle {100 * row['idle_share']:.0f} %, "
                    f"steps {stretch(row):.2f} times as long as meant"
                )


def _session(federation: Federation, scheduler: Mapping[str, Any], pace: Pace, seed: int) -> Row:
    choices = {"scheduler": scheduler, "rounds": _MOST_ROUNDS, "stop_after_s": pace.seconds, "seed": seed}
    parameters = {
        "alpha": ALPHA,
        "split_seed": seed,
        "epochs": EPOCHS,
        "learning_rate": pace.learning_rate,
        "step_ms": pace.step_ms,
        "slowness": slowness(federation.clients),
    }
    return federation.train(choices, parameters).as_row()


def slowness(clients: int) -> list[float]:
    """How many times as long as the fastest each site takes for a step."""
    return [_SLOWNESS[number % len(_SLOWNESS)] for number in range(clients)]


def slowness_of(row: Row, client: str) -> float:
    """That of a client of a row; a sandbox numbers its clients from 1 on."""
    return slowness(row["clients"])[int(client.rpartition("-")[2]) - 1]


def stretch(row: Row) -> float:
    """How many times as long a step took as was meant: the mean over the clients.

    1 where a site had a processor whenever its sleep was over. It tells a machine with other work to do, which makes
    the sites less unlike one another than the study says.
    """
    return statistics.fmean(
        ms_per_step / (row["step_ms"] * slowness_of(row, client)) for client, ms_per_step in row["ms_per_step"].items()
    )


def table(rows: Sequence[Row]) -> str:
    """The schedulers of each data set, over their seeds."""
    sets = {data: [row for row in rows if row["data"] == data] for data in dict.fromkeys(row["data"] for row in rows)}
    return "\n\n".join(f"{data}:\n\n{_table_of(own)}" for data, own in sets.items())


def _table_of(rows: Sequence[Row]) -> str:
    target = PACES[rows[0]["data"]].target
    columns = (
        *("scheduler", "rounds", "s a round", "idle %", "idle s a client and round", "steps/s of all clients"),
        *("length of a step ×", f"s to {target:.0%}", "reached", "accuracy at the end"),
    )
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        times = [time_to(row["curve"], target) for row in own]
        reached = [found for found in times if found is not None]
        # The first rows that were recorded do not have it.
        stretches = [stretch(row) for row in own if "ms_per_step" in row]
        lines.append(
            [
                name,
                statistics.fmean(row["rounds"] for row in own),
                statistics.fmean(row["window_s"] / row["rounds"] for row in own),
                mean_and_spread([100 * row["idle_share"] for row in own], digits=0),
                statistics.fmean(_idle_each_s(row) for row in own),
                statistics.fmean(row["steps"] / row["window_s"] for row in own),
                mean_and_spread(stretches, digits=2) if stretches else None,
                mean_and_spread(reached, digits=1) if reached else None,
                f"{len(reached)} of {len(own)}",
                mean_and_spread([100 * row["curve"][-1][2] for row in own], digits=1),
            ]
        )
    return markdown(columns, lines)


def _idle_each_s(row: Row) -> float:
    return float(row["idle_share"] * row["window_s"] / row["rounds"])


def _asynchronous(**options: float) -> dict[str, Any]:
    # A slow site's update is that of a model of many commits ago; the discount, not the limit, shall deal with it.
    given: Mapping[str, Any] = {"staleness": _STALENESS, "max_staleness": 1000, **options}
    return {"name": "asynchronous", "options": dict(given)}
