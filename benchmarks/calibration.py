"""The costs of the simulator, fitted to rounds that `benchmarks scale` measured, and how far off it is. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.results import Row
from benchmarks.simulator import Costs, Federation, Outcome, simulate

_AVERAGED_BYTES_PER_S = 1e9
"""At which the reducer averages combiner models, one after the other: assumed, from `benchmarks aggregation`."""
_KINDS = ("combiners", "reducer", "swarm")


def line_through(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least squares y ≈ a + b·x with a ≥ 0 and b ≥ 0: what is done once costs something, or nothing.

    Raises:
        ValueError: no points.
    """
    if not x or len(x) != len(y):
        raise ValueError("a line needs points")
    middle_x, middle_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((one - middle_x) ** 2 for one in x)
    slope = (
        sum((one - middle_x) * (other - middle_y) for one, other in zip(x, y, strict=True)) / spread if spread else 0.0
    )
    first = middle_y - slope * middle_x
    if slope < 0:
        return middle_y, 0.0
    if first < 0 or not spread:
        return 0.0, sum(one * other for one, other in zip(x, y, strict=True)) / sum(one * one for one in x)
    return first, slope


def fit(rows: Sequence[Row]) -> Costs:
    """The costs of runs on one host.

    Args:
        rows: of `benchmarks scale`, with one combiner each.

    Raises:
        ValueError: no rows.
    """
    clients = [float(row["clients"]) for row in rows]
    idle = statistics.fmean(row["idle_cpu_percent"] / 100 / row["clients"] for row in rows)
    cpu = {kind: [float(row["cpu_s"][kind]) for row in rows] for kind in _KINDS}
    # What the heartbeats took while a round went on is no cost of the round.
    cpu["combiners"] = [
        whole - idle * row["clients"] * _length_s(row) for whole, row in zip(cpu["combiners"], rows, strict=True)
    ]
    lines = {kind: line_through(clients, each) for kind, each in cpu.items()}
    costs = Costs(
        combiner_s=lines["combiners"][0],
        combiner_client_s=lines["combiners"][1],
        combiner_idle=idle,
        reducer_s=lines["reducer"][0],
        reducer_client_s=lines["reducer"][1],
        reducer_model_s=rows[0]["params"] * 4 / _AVERAGED_BYTES_PER_S,
        client_s=lines["swarm"][1] + lines["swarm"][0] / statistics.fmean(clients),
    )
    # As far off by a factor in one direction as in the other.
    ratios = [math.log(row["round_s"] / simulate(federation_of(row), costs).round_s) for row in rows]
    return replace(costs, stretch=math.exp(statistics.fmean(ratios)))


def federation_of(row: Row) -> Federation:
    """The federation of a measured run: one host, whose cores were partly taken by other programs."""
    return Federation(
        clients=row["clients"],
        combiners=row["combiners"],
        one_host=True,
        host_cores=max(0.1, float(row["cores"]) - float(row["other_cores"])),
        model_bytes=row["params"] * 4.0,
        client_processes=row["processes"],
    )


def _length_s(row: Row) -> float:
    """Mean of its rounds, the first one too: what processor times are told of."""
    return statistics.fmean(row["all_rounds"])


def cpu_of_combiners(outcome: Outcome, costs: Costs, clients: int) -> float:
    """Processor seconds of all combiners in one simulated round, heartbeats included."""
    idle_s = costs.combiner_idle * clients * outcome.round_s
    return outcome.work_s + idle_s


def compare(row: Row, costs: Costs) -> Row:
    """What the simulator says of a measured run: predicted, measured, and the error as a part of what was measured."""
    outcome = simulate(federation_of(row), costs)
    predicted = {
        "round_s": outcome.round_s,
        "combiner_cpu_s": cpu_of_combiners(outcome, costs, row["clients"]),
        "reducer_cpu_s": outcome.busy_s["reducer"],
    }
    measured = {
        "round_s": float(row["round_s"]),
        "combiner_cpu_s": float(row["cpu_s"]["combiners"]),
        "reducer_cpu_s": float(row["cpu_s"]["reducer"]),
    }
    return {
        "clients": row["clients"],
        "combiners": row["combiners"],
        "predicted": predicted,
        "measured": measured,
        "error": {name: predicted[name] / measured[name] - 1 for name in measured},
    }
