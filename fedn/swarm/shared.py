"""What all light clients of one process share."""

import asyncio
from dataclasses import dataclass

from fedn.swarm.joining import Joining
from fedn.swarm.models import SharedModels
from fedn.swarm.options import SwarmOptions
from fedn.swarm.statistics import SwarmStatistics
from fedn.swarm.stream import Connections


@dataclass(frozen=True)
class Shared:
    options: SwarmOptions
    joining: Joining
    connections: Connections
    models: SharedModels
    statistics: SwarmStatistics
    gate: asyncio.Semaphore
    """Enrolments, questions and greetings at once."""
