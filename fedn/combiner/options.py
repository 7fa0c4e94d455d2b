"""What a combiner may be told at its start, and the limits that are the same for every combiner."""

from dataclasses import dataclass, field
from pathlib import Path

from fedn.plan.settings import UpdateStoreSettings

MIB = 1 << 20

HELLO_TIMEOUT_S = 15.0
"""A stream whose first message does not come for so long is ended."""

KEEP_OBJECT_BYTES = 64 * MIB
"""Objects that no round needs any more stay held up to this sum, the newest one whatever its size."""

CLIENT_OUTBOX_BYTES = 16 * MIB
"""Control messages that may wait for one client: tasks with large parameters fit."""

SEND_BYTES = 16 * MIB
"""Pieces of models and packages on their way to all clients at once, but for those that slow peers are given."""

LINK_OUTBOX_BYTES = 64 * MIB
"""Control messages that may wait for the reducer: the events of a round of 10,000 clients fit."""

KEEP_OBJECTS = 8
"""And so many of them at the most."""

MAX_HELLO_ATTRIBUTES_BYTES = 4096
MAX_HELLO_OBJECTS = 4096
"""Of each list in a client's Hello."""

HEADER_SLACK_BYTES = MIB
"""An update's header may be so much longer than its base model's."""


@dataclass(frozen=True, kw_only=True)
class WorkerLimits:
    """Of every worker group at a combiner. Sizes in bytes, times in seconds."""

    max_frame_bytes: int = 1 << 30
    """A program's message; larger ones are refused."""
    spool_bytes: int = 256 * MIB
    """Spooled for one group, beyond 256 KiB for each two workers that talk."""
    pair_bytes: int = 16 * MIB
    """Of that, from one worker to another."""
    grace_s: float = 30.0
    """A worker without a stream for so long is lost."""
    max_groups: int = 64
    """At home here at once."""


@dataclass(frozen=True, kw_only=True)
class CombinerOptions:
    """How one combiner behaves. Times in seconds, sizes in bytes."""

    name: str
    federation: str
    data_dir: Path
    """Spool files live in `data_dir/spool`, without names: the kernel removes them with the process."""
    bind: str = "0.0.0.0"
    port: int = 12080
    """0: any free port."""
    max_clients: int = 10_000
    upload_memory_bytes: int = 512 * MIB
    """Memory for updates between their grant and the sum; larger updates go through spool files."""
    max_model_bytes: int = 8 << 30
    progress_s: float = 30.0
    """A transfer without one byte for so long is given up; it resumes when the peer comes back."""
    keep_result_s: float = 600.0
    """The result of a round that nobody watches is kept for so long."""
    mutual_tls: bool = False
    workers: WorkerLimits = field(default_factory=WorkerLimits)
    updates: UpdateStoreSettings = field(default_factory=UpdateStoreSettings)
    """Where clients' latest updates are kept, for rules that go by them in later rounds."""
    slow_after_s: float = 1.0
    """An upload under way for so long makes room for another; a grant that waits so long for memory gets a file."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM bytes of the combiner's certificate and of the federation's trust root."""

    key: bytes
    certificate: bytes
    ca: bytes
