"""Algorithms on sites of very different data: FedAvg beside what was made to be better than it.

Rounds count here, not seconds. Every update counts the same, in all methods, as SCAFFOLD's paper has it. Sessions are
deterministic: the same machine gives the same rows again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.convergence.federation import Federation
from benchmarks.convergence.measures import late_accuracy, mean_and_spread, rounds_to, unsteadiness
from benchmarks.results import Row, markdown, say

BENCH = "convergence_methods"
GRID_BENCH = "convergence_grid"
"""The sessions that hyper-parameters were chosen by; `BENCH` are those that count, on other seeds."""
ALPHA = 0.1
GRID_SEED = 0
_RATES = (0.03, 0.1, 0.3, 1.0)
"""Of the clients' SGD."""


@dataclass(frozen=True)
class Setting:
    """Who trains how much in a round."""

    epochs: int
    rounds: int
    cohort: int | None
    """Clients of a round; None: all of them."""


SETTINGS = {
    "all clients, many steps": Setting(epochs=10, rounds=40, cohort=None),
    "few clients, few steps": Setting(epochs=2, rounds=80, cohort=3),
    "few clients, many steps": Setting(epochs=20, rounds=40, cohort=3),
}
TARGETS = {"digits": 0.90, "fashion": 0.75}
"""Accuracy, the number of rounds to which is told."""


@dataclass(frozen=True)
class Method:
    """An algorithm, with the values that are tried of the one hyper-parameter that is its own."""

    grid: tuple[float, ...]
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Of the plan. The string VALUE stands for the value of the grid."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The same, of the plan's parameters."""
    what: str = ""
    """The name of the hyper-parameter, for people."""


VALUE = "VALUE"


def _optimizer(name: str, **options: Any) -> dict[str, Any]:
    return {"server_optimizer": {"name": name, "options": {"learning_rate": VALUE, **options}}}


METHODS: Mapping[str, Method] = {
    "FedAvg": Method(_RATES, parameters={"learning_rate": VALUE}, what="client rate"),
    "FedAvgM": Method((0.1, 0.3, 1.0), _optimizer("sgd", momentum=0.9), what="server rate"),
    "FedAdam": Method((0.01, 0.03, 0.1), _optimizer("adam"), what="server rate"),
    "FedYogi": Method((0.01, 0.03, 0.1), _optimizer("yogi"), what="server rate"),
    "FedProx": Method((0.01, 0.1, 1.0), parameters={"proximal_mu": VALUE}, what="μ"),
    "SCAFFOLD": Method(_RATES, {"rule": "scaffold"}, {"learning_rate": VALUE}, what="client rate"),
}
"""The first one's best client rate is that of all others that do not try their own."""
_BASE = "FedAvg"


def run(
    federation: Federation,
    data: str,
    *,
    names: Collection[str],
    settings: Sequence[str],
    seeds: Sequence[int],
    rounds: int | None,
) -> Iterator[Row]:
    """Rows of the grid and then of the chosen values, for each setting.

    Args:
        names: of the methods to measure, besides the one that the client rate comes from; others are nobody's here.
        settings: by their names.
        rounds: of each session; None: the setting's own.
    """
    chosen = {name: method for name, method in METHODS.items() if name in (_BASE, *names)}
    for title in settings:
        setting, rate = SETTINGS[title], _RATES[0]
        best: dict[str, tuple[float, float]] = {}
        for name, method in chosen.items():
            tried = []
            for value in method.grid:
                row = _session(federation, data, title, name, value, rate, GRID_SEED, rounds or setting.rounds)
                tried.append(row)
                yield {**row, "bench": GRID_BENCH}
            value = max(tried, key=lambda row: late_accuracy(row["curve"]))["value"]
            rate = value if name == _BASE else rate
            best[name] = value, rate
        for name, (value, own_rate) in best.items():
            for seed in seeds:
                yield _session(federation, data, title, name, value, own_rate, seed, rounds or setting.rounds)


def _session(
    federation: Federation, data: str, title: str, name: str, value: float, rate: float, seed: int, rounds: int
) -> Row:
    setting, method = SETTINGS[title], METHODS[name]
    cohort = setting.cohort and min(setting.cohort, federation.clients)
    choices: dict[str, Any] = {
        "rounds": rounds,
        "seed": seed,
        "deterministic": True,
        "scaling_factor": "NumParticipants",
        "clients_required": cohort or federation.clients,
        "clients_requested": cohort,
        **filled(method.plan, value),
    }
    parameters = {
        "alpha": ALPHA,
        "split_seed": seed,
        "epochs": setting.epochs,
        "learning_rate": rate,
        **filled(method.parameters, value),
    }
    course = federation.train(choices, parameters)
    row: Row = {
        "bench": BENCH,
        "data": data,
        "setting": title,
        "name": name,
        "seed": seed,
        "clients": federation.clients,
        "value": value,
        "learning_rate": parameters["learning_rate"],
        **course.as_row(),
    }
    say(f"{data}, {title}, {name} ({method.what} {value:g}), seed {seed}: {late_accuracy(row['curve']):.3f}")
    return row


def filled(what: Mapping[str, Any], value: float) -> dict[str, Any]:
    """A copy with the value where VALUE stands, however deep."""
    return {
        key: filled(one, value) if isinstance(one, Mapping) else value if one == VALUE else one
        for key, one in what.items()
    }


def table(rows: Sequence[Row]) -> str:
    """The methods of each data set and setting, over their seeds."""
    return _by_setting(rows, _table_of)


def grid_table(rows: Sequence[Row]) -> str:
    """Everything that was tried for each data set and setting."""
    return _by_setting(rows, _grid_of)


def _by_setting(rows: Sequence[Row], table: Callable[[Sequence[Row]], str]) -> str:
    places = dict.fromkeys((row["data"], row["setting"]) for row in rows)
    parts = {place: [row for row in rows if (row["data"], row["setting"]) == place] for place in places}
    return "\n\n".join(f"{data}, {setting}:\n\n{table(own)}" for (data, setting), own in parts.items())


def _table_of(rows: Sequence[Row]) -> str:
    target = TARGETS[rows[0]["data"]]
    columns = (
        *("method", "client rate", "its own", f"rounds to {target:.0%}", "reached"),
        *("accuracy late", "worst seed", "mean fall a round"),
    )
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        needed = [rounds_to(row["curve"], target) for row in own]
        reached = [float(found) for found in needed if found is not None]
        late = [100 * late_accuracy(row["curve"]) for row in own]
        method = METHODS[name]
        lines.append(
            [
                name,
                f"{own[0]['learning_rate']:g}",
                "" if method.what == "client rate" else f"{method.what} {own[0]['value']:g}",
                mean_and_spread(reached, digits=0) if reached else None,
                f"{len(reached)} of {len(own)}",
                mean_and_spread(late, digits=1),
                f"{min(late):.1f}",
                mean_and_spread([100 * unsteadiness(row["curve"]) for row in own], digits=2),
            ]
        )
    return markdown(columns, lines)


def _grid_of(rows: Sequence[Row]) -> str:
    columns = ("method", "hyper-parameter", "value", "client rate", "accuracy late", "mean fall a round")
    return markdown(
        columns,
        [
            [
                row["name"],
                METHODS[row["name"]].what,
                f"{row['value']:g}",
                f"{row['learning_rate']:g}",
                f"{100 * late_accuracy(row['curve']):.1f}",
                f"{100 * unsteadiness(row['curve']):.2f}",
            ]
            for row in rows
        ],
    )
