"""Federated learning in three tiers: reducer, combiners, clients.

The names that programs use are here; each is imported when it is first asked for, so that `import fedn` and the
command line stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedn.api.client import APIClient as APIClient
    from fedn.client.learner import Learner as Learner
    from fedn.client.learner import TaskContext as TaskContext
    from fedn.client.proximal import Proximal as Proximal
    from fedn.client.scaffold import Scaffold as Scaffold
    from fedn.driver.driver import Driver as Driver
    from fedn.protocol.errors import FednError as FednError

__version__ = "0.1.0"

_HOMES = {
    "APIClient": "fedn.api.client",
    "Driver": "fedn.driver.driver",
    "FednError": "fedn.protocol.errors",
    "Learner": "fedn.client.learner",
    "Proximal": "fedn.client.proximal",
    "Scaffold": "fedn.client.scaffold",
    "TaskContext": "fedn.client.learner",
}

__all__ = ["APIClient", "Driver", "FednError", "Learner", "Proximal", "Scaffold", "TaskContext", "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fedn' has no attribute {name!r}")
    return getattr(import_module(home), name)
