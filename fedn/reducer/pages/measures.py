"""Metrics over rounds, client by client: what figures and tables are made of. Pure, but for `validation_means`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import LedgerState, RoundKind
from fedn.protocol.tasks import weighted_mean
from fedn.protocol.trail import ValidationRecord
from fedn.reducer.services import services

VALIDATION, TRAINING = "validation", "training"


@dataclass
class Measured:
    """What clients measured in one round, or of the model that it made."""

    round: int
    """From 1; 0 is the model that the session began with."""
    clients: dict[str, dict[str, float]] = field(default_factory=dict)
    """Client to its metrics."""
    examples: dict[str, int] = field(default_factory=dict)

    def values(self, metric: str) -> dict[str, float]:
        """Client to its finite value."""
        found = {client: values[metric] for client, values in self.clients.items() if metric in values}
        return {client: value for client, value in found.items() if math.isfinite(value)}

    def mean(self, metric: str) -> float | None:
        """By examples; where no client says how many it has, each counts the same."""
        values = self.values(metric)
        some = any(self.examples.get(client, 0) for client in values)
        pairs = [(self.examples.get(client, 0) if some else 1, {metric: value}) for client, value in values.items()]
        return weighted_mean([(float(weight), value) for weight, value in pairs]).get(metric)


@dataclass(frozen=True)
class Spread:
    """Of one metric over clients in one round: a box plot's numbers."""

    round: int
    count: int
    mean: float
    least: float
    q1: float
    median: float
    q3: float
    most: float
    low_fence: float
    """The least value within 1.5 quartile ranges below the box."""
    high_fence: float


def training(rounds: Iterable[RoundView]) -> list[Measured]:
    """What clients said of their training, by round."""
    found = []
    for view in rounds:
        if view.kind is RoundKind.TRAIN:
            measured = Measured(view.index + 1)
            for entry in view.ledger:
                if entry.state is LedgerState.UPDATED and entry.metadata is not None:
                    measured.clients[entry.client] = dict(entry.metadata.metrics)
                    measured.examples[entry.client] = entry.metadata.num_examples
            if measured.clients:
                found.append(measured)
    return found


def validation(rounds: Iterable[RoundView], records: Iterable[ValidationRecord]) -> list[Measured]:
    """What clients found of the models, by the round that made each."""
    numbers: dict[str, int] = {}
    for view in rounds:
        if view.kind is RoundKind.TRAIN:
            if view.index == 0 and view.base_model_id:
                numbers.setdefault(view.base_model_id, 0)
            if view.model_id:
                numbers[view.model_id] = view.index + 1
    found: dict[int, Measured] = {}
    for record in records:
        number = numbers.get(record.model_id)
        if number is not None:
            measured = found.setdefault(number, Measured(number))
            measured.clients[record.client] = record.metrics
            measured.examples[record.client] = record.num_examples
    return [found[number] for number in sorted(found)]


def metric_names(measured: Iterable[Measured]) -> set[str]:
    return {name for one in measured for values in one.clients.values() for name in values}


def spreads(measured: Iterable[Measured], metric: str) -> list[Spread]:
    """By round, of those in which a client has the metric."""
    found = []
    for one in measured:
        values = sorted(one.values(metric).values())
        mean = one.mean(metric)
        if values and mean is not None:
            q1, median, q3 = (_quantile(values, part) for part in (0.25, 0.5, 0.75))
            reach = 1.5 * (q3 - q1)
            inside = [value for value in values if q1 - reach <= value <= q3 + reach] or values
            found.append(
                Spread(
                    one.round,
                    len(values),
                    mean,
                    values[0],
                    q1,
                    median,
                    q3,
                    values[-1],
                    min(inside[0], q1),
                    max(inside[-1], q3),
                )
            )
    return found


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Linear between the two nearest values (method 7 of Hyndman and Fan, "Sample Quantiles", 1996)."""
    place = part * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    rest = place - low
    return ordered[low] * (1 - rest) + ordered[high] * rest


def validation_means(session: str) -> Mapping[str, dict[str, float]]:
    """What the clients of a session found of each model, by its id: means by examples."""
    grouped: dict[str, Measured] = {}
    for record in services().watching.history.validations(session):
        measured = grouped.setdefault(record.model_id, Measured(0))
        measured.clients[record.client] = record.metrics
        measured.examples[record.client] = record.num_examples
    return {
        model_id: {name: mean for name in metric_names([one]) if (mean := one.mean(name)) is not None}
        for model_id, one in grouped.items()
    }
