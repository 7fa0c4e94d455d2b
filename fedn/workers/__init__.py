"""Worker-oriented programming: a program says what one worker does when a message comes; any message, any topology.

Here live messages, managers, back ends, topologies and the algorithms written with them. Nothing of the three tiers
is imported, and no framework.
"""

from fedn.workers.backends import Backend, InProcessNetwork, attach
from fedn.workers.communication import BaseCommunicationManager, Observer
from fedn.workers.errors import BadMessage, PeerUnavailable, RoundIncomplete
from fedn.workers.flow import FedMLAlgorithmFlow, FedMLExecutor, Params
from fedn.workers.manager import ClientManager, FedMLCommManager, ServerManager, WorkerManager
from fedn.workers.message import Message
from fedn.workers.message_wire import decode_message, encode_message
from fedn.workers.running import FedML_init, run_workers
from fedn.workers.topology import AsymmetricTopologyManager, BaseTopologyManager, SymmetricTopologyManager

__all__ = [
    "AsymmetricTopologyManager",
    "Backend",
    "BadMessage",
    "BaseCommunicationManager",
    "BaseTopologyManager",
    "ClientManager",
    "FedMLAlgorithmFlow",
    "FedMLCommManager",
    "FedMLExecutor",
    "FedML_init",
    "InProcessNetwork",
    "Message",
    "Observer",
    "Params",
    "PeerUnavailable",
    "RoundIncomplete",
    "ServerManager",
    "SymmetricTopologyManager",
    "WorkerManager",
    "attach",
    "decode_message",
    "encode_message",
    "run_workers",
]
