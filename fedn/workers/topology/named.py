"""Topologies by name, for launchers: a name, the number of workers, and options as texts."""

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from fedn.protocol.errors import InvalidInput
from fedn.workers.topology.base import BaseTopologyManager
from fedn.workers.topology.fedml import AsymmetricTopologyManager, SymmetricTopologyManager
from fedn.workers.topology.graphs import (
    BalancedTreeTopology,
    CompleteTopology,
    ErdosRenyiTopology,
    ExponentialTopology,
    HypercubeTopology,
    StarTopology,
    TorusTopology,
    one_peer_exponential,
)

TOPOLOGY = "FEDN_WORKER_TOPOLOGY"
"""In the environment of a worker's process: the launcher's choice, as JSON."""

Make = Callable[..., BaseTopologyManager]


def _torus(n: int, *, rows: int = 0) -> TorusTopology:
    rows = rows or next(count for count in range(math.isqrt(n), 0, -1) if n % count == 0)
    if n % rows:
        raise ValueError(f"{n} workers do not fill {rows} rows")
    return TorusTopology(rows, n // rows)


def _hypercube(n: int) -> HypercubeTopology:
    if n & (n - 1):
        raise ValueError(f"a hypercube has 1, 2, 4, 8, … nodes, not {n}")
    return HypercubeTopology(n.bit_length() - 1)


def _asymmetric(n: int, *, seed: int = 0, **options: Any) -> AsymmetricTopologyManager:
    return AsymmetricTopologyManager(n, seed=seed, **options)  # with a seed, so that all processes draw the same


def _erdos_renyi(n: int, *, p: float = 0.5, seed: int = 0) -> ErdosRenyiTopology:
    return ErdosRenyiTopology(n, p, seed=seed)


TOPOLOGIES: Mapping[str, Make] = {
    "asymmetric": _asymmetric,
    "balanced-tree": BalancedTreeTopology,
    "complete": CompleteTopology,
    "erdos-renyi": _erdos_renyi,
    "exponential": ExponentialTopology,
    "hypercube": _hypercube,
    "one-peer-exponential": one_peer_exponential,
    "star": StarTopology,
    "symmetric": SymmetricTopologyManager,
    "torus": _torus,
}
"""Name to what makes it of the number of workers and its options."""


def make_topology(name: str, n: int, options: Mapping[str, Any] | None = None) -> BaseTopologyManager:
    """The topology of n nodes; the same in each process that asks with the same arguments.

    Raises:
        InvalidInput: (`bad_topology`) there is none of this name, or the options or n do not fit it.
    """
    make = TOPOLOGIES.get(name)
    if make is None:
        raise InvalidInput(
            "bad_topology", f"There is no topology {name!r}", fix=f"Known: {', '.join(TOPOLOGIES)}.", where={"n": n}
        )
    try:
        topology = make(n, **dict(options or {}))
        topology.generate_topology()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "bad_topology",
            f"The topology {name} cannot be made: {error}",
            fix="See its arguments in the page on workers and topologies.",
            where={"topology": name, "n": n},
        ) from error
    return topology


def launched_topology(n: int, environment: Mapping[str, str] = os.environ) -> BaseTopologyManager | None:
    """What `fedn worker run --topology` has chosen, for n workers; None where it has not."""
    text = environment.get(TOPOLOGY)
    if text is None:
        return None
    chosen = json.loads(text)
    return make_topology(chosen["name"], n, chosen["options"])


def topology_variable(name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """What a launcher puts into its workers' environment."""
    return {TOPOLOGY: json.dumps({"name": name, "options": dict(options)})}
