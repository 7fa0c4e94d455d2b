"""The settings of a combiner. Everything in them acts."""

import socket
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ByteSize, Field, ValidationInfo, field_validator

from fedn.plan.settings_base import Port, UpdateStoreSettings
from fedn.plan.settings_fields import GIB, MIB, Name, Seconds, Size
from fedn.plan.settings_site import SiteSettings


class CombinerSettings(SiteSettings):
    """Tier 2: carries out rounds with the clients attached to it."""

    program: ClassVar[str] = "combiner"

    name: Name = Field(default_factory=lambda: f"combiner-{socket.gethostname()}"[:64])
    """Fixed by the first start in a data directory."""
    bind: str = Field(default="0.0.0.0", min_length=1)
    """Address to listen at."""
    port: Port = 12080
    """Port to listen at; 0: any free one."""
    public_host: str = Field(default_factory=socket.gethostname, min_length=1)
    """Name or IP address under which clients and the reducer reach this combiner; it stands in its certificate."""
    public_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port under which they reach it, where that is another one (published by Docker, forwarded); None: `port`."""
    mutual_tls: bool = False
    """Clients and the reducer must show their certificate, as with the reducer's setting of the same name."""
    data_dir: Path = Path("fedn-data/combiner")
    """Identity, and updates that do not fit into memory."""
    max_clients: int = Field(default=10_000, ge=1, le=1_000_000)
    """Clients attached at once; more are sent elsewhere."""
    upload_memory_bytes: Size = ByteSize(512 * MIB)
    """Memory for updates that are arriving; more of them at once go to disk."""
    max_model_bytes: Size = ByteSize(8 * GIB)
    """Larger updates are refused."""
    progress_s: Seconds = 30.0
    """Seconds without a byte after which a transfer counts as stuck."""
    keep_result_s: Seconds = 600.0
    """Seconds that a round's result is kept for a reducer that went away."""
    metrics_port: Port = 0
    """Where Prometheus metrics are served; 0: nowhere."""
    metrics_bind: str = Field(default="127.0.0.1", min_length=1)
    """Address at which they are served, to whoever can reach it: without TLS and without a token."""
    worker_message_bytes: Size = ByteSize(GIB)
    """Larger messages between workers are refused."""
    worker_spool_bytes: Size = ByteSize(256 * MIB)
    """Spooled for workers of one group that are slow or away, beyond 256 KiB for each two that talk."""
    worker_pair_bytes: Size = ByteSize(16 * MIB)
    """Of that, from one worker to another."""
    worker_grace_s: Seconds = 30.0
    """A worker without a stream for so long is lost to its group."""
    max_worker_groups: int = Field(default=64, ge=1, le=10_000)
    """Worker groups that meet here at once."""
    heartbeat_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Seconds between signs of life to the reducer."""
    updates: UpdateStoreSettings = Field(default_factory=UpdateStoreSettings, validate_default=True)
    """Where clients' latest updates are kept, for rules that go by them in later rounds."""

    @field_validator("updates")
    @classmethod
    def _updates_in_data_dir(cls, updates: UpdateStoreSettings, info: ValidationInfo) -> UpdateStoreSettings:
        if updates.kind == "files" and updates.path is None and "data_dir" in info.data:
            return updates.model_copy(update={"path": info.data["data_dir"] / "updates"})
        return updates
