"""What the platform must reach, as ratios: to peers measured in the same run, and to the machine's floor of that run.

The seconds below were all measured on one machine. Only their ratios carry over to another: a limit here is a limit
there times (the peer's time there / the same peer's time here).
"""

from collections.abc import Mapping
from dataclasses import dataclass

FLOOR_FACTOR = 1.5
"""A round may take so much of the floor: its bytes at the speed of raw Python gRPC with TLS, and a durable commit."""
AGGREGATION_FACTOR = 1.3
"""A fold may take so much of the memory floor of its accumulator's dtype."""
_TWO_COMBINERS = 1.15
_TWO_COMBINERS_TWO_CLIENTS = 1.35
_TWO_COMBINERS_LARGEST = 1.5
_LARGEST = 100_000_000

Cell = tuple[int, int]
"""(parameters, clients)"""


@dataclass(frozen=True)
class Target:
    """The most that a cell may take on the machine of the table, with one combiner."""

    tls_s: float
    plain_s: float
    combiner_mb: float
    """Peak resident memory of the combiner, MiB."""


TARGETS: Mapping[Cell, Target] = {
    (100_000, 2): Target(0.015, 0.012, 200),
    (100_000, 10): Target(0.035, 0.025, 200),
    (100_000, 50): Target(0.14, 0.11, 200),
    (1_000_000, 2): Target(0.050, 0.045, 400),
    (1_000_000, 10): Target(0.16, 0.12, 400),
    (1_000_000, 50): Target(0.70, 0.45, 400),
    (10_000_000, 2): Target(0.40, 0.33, 600),
    (10_000_000, 10): Target(1.35, 1.0, 600),
    (10_000_000, 25): Target(3.2, 2.4, 600),
    (100_000_000, 2): Target(3.6, 2.9, 2.6 * 1024),
}

PEERS: Mapping[str, Mapping[Cell, float]] = {
    "flower": {
        (100_000, 2): 0.018,
        (100_000, 10): 0.061,
        (100_000, 25): 0.149,
        (100_000, 50): 0.340,
        (1_000_000, 2): 0.068,
        (1_000_000, 10): 0.325,
        (1_000_000, 25): 0.807,
        (1_000_000, 50): 1.81,
        (10_000_000, 2): 1.11,
        (10_000_000, 5): 2.47,
        (10_000_000, 10): 5.19,
        (10_000_000, 25): 15.4,
        (100_000_000, 2): 17.8,
    },
    "nvflare": {
        (100_000, 2): 1.0,
        (100_000, 10): 1.0,
        (100_000, 25): 1.5,
        (100_000, 50): 2.5,
        (1_000_000, 2): 0.60,
        (1_000_000, 10): 0.81,
        (1_000_000, 25): 2.5,
        (1_000_000, 50): 4.6,
        (10_000_000, 2): 1.23,
        (10_000_000, 5): 2.5,
        (10_000_000, 10): 3.38,
        (10_000_000, 25): 11.6,
        (100_000_000, 2): 5.7,
    },
}
"""Seconds a round of Flower 1.8 (`start_server`) and NVFlare 2.9 (best tuning found), without TLS."""


def combiners_factor(cell: Cell, combiners: int) -> float:
    """How much longer a round may take with so many combiners on the one machine.

    Raises:
        ValueError: nothing is said of that many.
    """
    if combiners == 1:
        return 1.0
    if combiners != 2:
        raise ValueError(f"there is no target for {combiners} combiners, only for 1 and 2")
    params, clients = cell
    if params >= _LARGEST:
        return _TWO_COMBINERS_LARGEST
    return _TWO_COMBINERS_TWO_CLIENTS if clients == 2 else _TWO_COMBINERS


def required_ratio(cell: Cell, peer: str, *, tls: bool, combiners: int = 1) -> float | None:
    """The most that our time may be of the named peer's time of the same run; None where the table has no figure."""
    target, peer_s = TARGETS.get(cell), PEERS.get(peer, {}).get(cell)
    if target is None or peer_s is None or combiners not in (1, 2):
        return None
    return (target.tls_s if tls else target.plain_s) * combiners_factor(cell, combiners) / peer_s


def best_peer(times_s: Mapping[str, float]) -> str | None:
    """The name of the fastest of the peers that were measured."""
    return min(times_s, key=lambda name: times_s[name], default=None)


def round_bytes(params: int, clients: int, combiners: int) -> int:
    """Bytes of float32 that a round must move: to and from each client, to and from each combiner."""
    return 4 * params * (2 * clients + 2 * combiners)


def floor_s(params: int, clients: int, combiners: int, *, bytes_per_s: float, commit_s: float) -> float:
    """Seconds that a round takes at least.

    Args:
        bytes_per_s: what raw Python gRPC was measured to move in the same run.
        commit_s: what a durable commit of the model was measured to take in the same run.
    """
    return round_bytes(params, clients, combiners) / bytes_per_s + commit_s


def passes(value: float | None, limit: float | None) -> bool | None:
    """Whether a figure keeps its limit; None where one of the two is missing."""
    return None if value is None or limit is None else value <= limit
