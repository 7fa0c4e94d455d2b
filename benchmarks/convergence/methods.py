"""Algorithms on sites of very different data: FedAvg beside what was made to be better than it.

Rounds count here, not seconds. Every update counts the same, in all methods, as SCAFFOLD's paper has it. Sessions are
deterministic: the same machine gives the same rows again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks.convergence.federation import Federation
from benchmarks.convergence.measures import late_accuracy, mean_and_spread, rounds_to, unsteadiness
from benchmarks.convergence.record import Record
from benchmarks.results import Row, markdown, say

BENCH = "convergence_methods"
GRID_BENCH = "convergence_grid"
"""The sessions that hyper-parameters were chosen by; `BENCH` are those that count, on other seeds."""
ALPHA = 0.1
GRID_SEED = 0


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
class Grid:
    """Values of a hyper-parameter, in their order."""

    first: tuple[float, ...]
    """Are tried in any case."""
    below: tuple[float, ...] = ()
    above: tuple[float, ...] = ()
    """Are tried one after another, as long as the best one lies at that edge of what was tried."""

    @property
    def values(self) -> tuple[float, ...]:
        return (*self.below, *self.first, *self.above)

    def search(self, score: Callable[[float], float]) -> float:
        """The value with the highest score; of equal ones the smallest."""
        values, start = self.values, len(self.below)
        scores = {place: score(values[place]) for place in range(start, start + len(self.first))}
        while True:
            best = max(sorted(scores), key=scores.__getitem__)
            beyond = [place for place in (best - 1, best + 1) if place not in scores and 0 <= place < len(values)]
            if not beyond:
                return values[best]
            scores.update((place, score(values[place])) for place in beyond)


_CLIENT_RATES = Grid((0.03, 0.1, 0.3), below=(0.003, 0.01), above=(1.0,))
"""Of the clients' SGD."""
_ADAPTIVE_RATES = Grid((0.01, 0.03, 0.1), below=(0.001, 0.003), above=(0.3, 1.0))


@dataclass(frozen=True)
class Method:
    """An algorithm, with the values that are tried of the one hyper-parameter that is its own."""

    grid: Grid
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
    "FedAvg": Method(_CLIENT_RATES, parameters={"learning_rate": VALUE}, what="client rate"),
    "FedAvgM": Method(
        Grid((0.1, 0.3, 1.0), below=(0.01, 0.03), above=(3.0, 10.0)),
        _optimizer("sgd", momentum=0.9),
        what="server rate",
    ),
    "FedAdam": Method(_ADAPTIVE_RATES, _optimizer("adam"), what="server rate"),
    "FedYogi": Method(_ADAPTIVE_RATES, _optimizer("yogi"), what="server rate"),
    # Below the least one it is FedAvg to the third digit.
    "FedProx": Method(Grid((0.01, 0.1, 1.0), below=(0.001,)), parameters={"proximal_mu": VALUE}, what="μ"),
    "SCAFFOLD": Method(_CLIENT_RATES, {"rule": "scaffold"}, {"learning_rate": VALUE}, what="client rate"),
}
"""The first one's best client rate is that of all others that do not try their own."""
_BASE = "FedAvg"


def run(
    federation: Federation,
    data: str,
    record: Record,
    *,
    names: Collection[str],
    settings: Sequence[str],
    seeds: Sequence[int],
    rounds: int | None,
) -> None:
    """Rows of the grid and then of the chosen values, for each setting.

    Args:
        names: of the methods to measure, besides the one that the client rate comes from; others are nobody's here.
        settings: by their names.
        rounds: of each session; None: the setting's own.
    """
    others = [name for name in METHODS if name in names and name != _BASE]
    for title in settings:
        setting = SETTINGS[title] if rounds is None else replace(SETTINGS[title], rounds=rounds)
        part = Part(federation, record, data, title, setting)
        base_rate = METHODS[_BASE].grid.search(partial(part.score, _BASE, None))
        best = {_BASE: base_rate} | {
            name: METHODS[name].grid.search(partial(part.score, name, base_rate)) for name in others
        }
        for name, value in best.items():
            for seed in seeds:
                part.row(BENCH, name, base_rate, value, seed)


@dataclass(frozen=True)
class Part:
    """One setting on one data set."""

    federation: Federation
    record: Record
    data: str
    title: str
    setting: Setting

    def score(self, name: str, base_rate: float | None, value: float) -> float:
        """How good a value is on the seed that no other row has."""
        return late_accuracy(self.row(GRID_BENCH, name, base_rate, value, GRID_SEED)["curve"])

    def row(self, bench: str, name: str, base_rate: float | None, value: float, seed: int) -> Row:
        """That of a session.

        Args:
            base_rate: of the clients; None where the method tries its own.
        """
        given = {} if base_rate is None else {"learning_rate": base_rate}
        parameters = {**given, **filled(METHODS[name].parameters, value)}
        head: Row = {
            "bench": bench,
            "data": self.data,
            "setting": self.title,
            "name": name,
            "seed": seed,
            "clients": self.federation.clients,
            "rounds": self.setting.rounds,
            "value": value,
            "learning_rate": parameters["learning_rate"],
        }
        row = self.record.row(head, lambda: self._measure(METHODS[name], value, parameters, seed))
        found = late_accuracy(row["curve"])
        say(f"{self.data}, {self.title}, {name} ({METHODS[name].what} {value:g}), seed {seed}: {found:.3f}")
        return row

    def _measure(self, method: Method, value: float, parameters: Mapping[str, Any], seed: int) -> Row:
        setting, clients = self.setting, self.federation.clients
        cohort = setting.cohort and min(setting.cohort, clients)
        choices: dict[str, Any] = {
            "rounds": setting.rounds,
            "seed": seed,
            "deterministic": True,
            "scaling_factor": "NumParticipants",
            "clients_required": cohort or clients,
            "clients_requested": cohort,
            **filled(method.plan, value),
        }
        own = {"alpha": ALPHA, "split_seed": seed, "epochs": setting.epochs, **parameters}
        return self.federation.train(choices, own).as_row()


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
        *("accuracy late", "worst seed", "beside FedAvg", "better", "mean fall a round"),
    )
    base = {row["seed"]: late_accuracy(row["curve"]) for row in rows if row["name"] == _BASE}
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        needed = [rounds_to(row["curve"], target) for row in own]
        reached = [float(found) for found in needed if found is not None]
        late = [100 * late_accuracy(row["curve"]) for row in own]
        # Sites, cohorts and batches are the same with each method, so seed is compared with seed.
        gains = [100 * (late_accuracy(row["curve"]) - base[row["seed"]]) for row in own if row["seed"] in base]
        compared = name != _BASE and bool(gains)
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
                mean_and_spread(gains, digits=1) if compared else None,
                f"{sum(gain > 0 for gain in gains)} of {len(gains)}" if compared else None,
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
