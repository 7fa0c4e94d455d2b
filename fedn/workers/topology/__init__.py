"""Who sends to whom: FedML's topologies and further ones, each a matrix of weights."""

from fedn.workers.topology.base import BaseTopologyManager, MatrixTopology, metropolis
from fedn.workers.topology.fedml import AsymmetricTopologyManager, SymmetricTopologyManager
from fedn.workers.topology.graphs import (
    BalancedTreeTopology,
    CompleteTopology,
    ErdosRenyiTopology,
    ExponentialTopology,
    GraphTopology,
    HypercubeTopology,
    StarTopology,
    TimeVaryingTopology,
    TorusTopology,
    one_peer_exponential,
)
from fedn.workers.topology.named import TOPOLOGIES, launched_topology, make_topology

__all__ = [
    "TOPOLOGIES",
    "AsymmetricTopologyManager",
    "BalancedTreeTopology",
    "BaseTopologyManager",
    "CompleteTopology",
    "ErdosRenyiTopology",
    "ExponentialTopology",
    "GraphTopology",
    "HypercubeTopology",
    "MatrixTopology",
    "StarTopology",
    "SymmetricTopologyManager",
    "TimeVaryingTopology",
    "TorusTopology",
    "launched_topology",
    "make_topology",
    "metropolis",
    "one_peer_exponential",
]
