"""Algorithms written on the worker API, a module each. They take functions and arrays, of NumPy or any framework.

Not here: how messages move (fedn.workers.backends), and training by rounds of the three tiers.
"""

from fedn.workers.algorithms.base_framework import BaseClient, BaseServer
from fedn.workers.algorithms.dsgd import DsgdWorker
from fedn.workers.algorithms.fed_gkt import GktClient, GktServer, Schooling
from fedn.workers.algorithms.fedavg import FedAvgClient, FedAvgServer
from fedn.workers.algorithms.hierarchical import Groups, GroupServer, hierarchical_worker
from fedn.workers.algorithms.push_sum import PushSumWorker
from fedn.workers.algorithms.rounds import RoundWorker
from fedn.workers.algorithms.split_nn import SplitClient, SplitServer
from fedn.workers.algorithms.vertical import Guest, Host

__all__ = [
    "BaseClient",
    "BaseServer",
    "DsgdWorker",
    "FedAvgClient",
    "FedAvgServer",
    "GktClient",
    "GktServer",
    "GroupServer",
    "Groups",
    "Guest",
    "Host",
    "PushSumWorker",
    "RoundWorker",
    "Schooling",
    "SplitClient",
    "SplitServer",
    "hierarchical_worker",
]
