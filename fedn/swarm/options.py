"""What a swarm is told: how many clients, how they attach, what they do. Everything in it acts."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from fedn.protocol.tasks import Frozen


class Behaviour(Frozen):
    """What each light client does with its tasks. Draws depend on `seed`, the client's name and the task alone."""

    seed: int = Field(default=0, ge=0)
    step: float = 1e-3
    """Client number k returns the model that it received plus k · step in every floating-point tensor."""
    num_examples: int = Field(default=10, ge=1)
    """What each update weighs."""
    think_ms: float = Field(default=0.0, ge=0)
    """Milliseconds that a task takes before its result is there."""
    think_spread: float = Field(default=0.0, ge=0, le=1)
    """Part of `think_ms` by which a task may be quicker or slower, evenly."""
    failure_rate: float = Field(default=0.0, ge=0, le=1)
    """Part of the tasks that the client reports as failed."""
    dropout_rate: float = Field(default=0.0, ge=0, le=1)
    """Part of the tasks at which the client goes away: says so, or just vanishes, also in the middle of an upload."""
    away_s: float = Field(default=5.0, ge=0)
    """Seconds after which a client that went away comes back and goes on, between a half of it and all of it."""
    slow_share: float = Field(default=0.0, ge=0, le=1)
    """Part of the clients that send over a slow link."""
    slow_bytes_per_s: float = Field(default=1e6, gt=0)
    """Bytes a second of such a link."""


class SwarmOptions(Frozen):
    """A whole swarm."""

    clients: int = Field(ge=1, le=1_000_000)
    processes: int = Field(default=1, ge=1, le=256)
    name_base: str = Field(min_length=1, max_length=48)
    """Clients are called `name_base-00001` and so on."""
    combiner: str = ""
    """Preferred combiner of every client; empty: as the reducer assigns."""
    receive: Literal["each", "shared"] = "each"
    """`each`: a client holds what its own stream brought. `shared`: it also holds what another client of its process
    has received, and says so when it attaches."""
    streams_per_connection: int = Field(default=1, ge=1, le=10_000)
    """Clients that share one connection to their combiner."""
    ramp_per_s: float = Field(default=0.0, ge=0)
    """Clients that begin to attach each second, over all processes; 0: all at once, as fast as they are served."""
    ping_s: float = Field(default=0.0, ge=0)
    """Seconds between pings of each client; 0: only when nothing was heard for half of `progress_s`."""
    progress_s: float = Field(default=30.0, gt=0)
    """Seconds without a byte, although pinged, after which a stream counts as broken."""
    report_s: float = Field(default=1.0, gt=0)
    """Seconds between two reports of a process."""
    data_dir: Path | None = None
    """Keys of the clients, so that a later swarm goes on as the same clients, and large models. None: keys live in
    memory, large models in a temporary file."""
    behaviour: Behaviour = Behaviour()

    def name(self, number: int) -> str:
        """Of client `number`, from 1 on."""
        return f"{self.name_base}-{number:05d}"


class WorkerSpec(Frozen):
    """What one process of a swarm is told."""

    options: SwarmOptions
    join: str
    """Join string. A secret: travels over a pipe, never in arguments."""
    first: int = Field(ge=1)
    """Number of the first client."""
    count: int = Field(ge=1)
    ramp_per_s: float = Field(ge=0)
    """This process's part of the ramp."""
