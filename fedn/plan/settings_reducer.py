"""The settings of the reducer. Everything in them acts."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ByteSize, Field, ValidationInfo, field_validator

from fedn.plan.settings_base import (
    Fault,
    LogSettings,
    ModelStoreSettings,
    OwnSecret,
    Port,
    Secret,
    StateStoreSettings,
    is_loopback,
    secret_faults,
)
from fedn.plan.settings_fields import GIB, MIB, Name, Seconds, Size


class ReducerSettings(LogSettings):
    """Tier 1: REST, discovery, sessions, the trail."""

    program: ClassVar[str] = "reducer"

    federation: Name = "fedn-network"
    """Name of the federation; fixed once the trail has begun."""
    bind: str = Field(default="0.0.0.0", min_length=1)
    """Address to listen at."""
    port: Port = 8090
    """Port to listen at; 0: any free one."""
    public_hosts: list[str] = Field(
        default_factory=lambda: ["localhost", "127.0.0.1", socket.gethostname()], min_length=1
    )
    """Names and IP addresses under which others reach the reducer; they stand in its certificate."""
    public_url: str | None = None
    """Address in join strings; by default made of the last of public_hosts and the port."""
    data_dir: Path = Path("fedn-data/reducer")
    """Keys, secrets and, unless told otherwise, the stores."""
    trust_dir: Path | None = None
    """A folder that combiners and clients see too: ca.crt is copied there, for their `ca_file`; None: no copy."""
    models: ModelStoreSettings = Field(default_factory=ModelStoreSettings, validate_default=True)
    """Where models, server states and compute packages are kept."""
    state: StateStoreSettings = Field(default_factory=StateStoreSettings, validate_default=True)
    """Where the trail, sessions and events are kept."""
    enrolment_secret: OwnSecret | None = Secret()
    """Buys a site its enrolment; None: made at the first start and kept in data_dir/secrets."""
    admin_secret: OwnSecret | None = Secret()
    """Buys an admin or viewer token; None: made at the first start and kept in data_dir/secrets."""
    tls: bool = True
    """False is allowed on this machine's own loopback only."""
    mutual_tls: bool = False
    """Combiners and clients must show their certificate on every connection."""
    token_ttl_s: float = Field(default=3600.0, ge=60, le=7 * 86400)
    """Seconds that a token is good for; programs renew theirs by themselves."""
    combiner_dead_after_s: Seconds = 6.0
    """Seconds without a heartbeat after which a combiner gets no clients and no tasks."""
    max_model_bytes: Size = ByteSize(8 * GIB)
    """Larger seeds and updates are refused."""
    max_package_bytes: Size = ByteSize(256 * MIB)
    """Larger compute packages are refused."""
    rest_threads: int = Field(default=16, ge=2, le=1024)
    """Requests answered at once, event streams apart."""
    max_worker_group_size: int = Field(default=1024, ge=1, le=4096)
    """Workers of one group."""
    max_worker_groups: int = Field(default=1000, ge=1, le=100_000)
    """Worker groups that are known at once."""
    max_relayed_workers: int = Field(default=64, ge=0, le=4096)
    """Workers' streams that go through the reducer at once, where combiners do not reach each other: up to 5 MiB of
    memory each. 0: none may."""
    max_event_streams: int = Field(default=128, ge=1, le=10_000)
    """Server-sent event streams open at once."""
    digest: Literal["blake3", "sha256"] = "blake3"
    """Algorithm of the digests that name models and packages."""
    docs_url: str = Field(default="", pattern="^(https?://[^ ?#]+)?$")
    """Address of the documentation: the `type` of errors is its page reference/errors/#CODE. Empty: the reducer's own
    pages /errors/CODE, which need no network."""
    allow_example_secrets: bool = False
    """Starts with the secrets of .env.example; for a sandbox on one machine only."""
    published_at: str | None = None
    """In a container: the host's address at which the port is published; None: in no container."""

    @field_validator("models")
    @classmethod
    def _models_in_data_dir(cls, models: ModelStoreSettings, info: ValidationInfo) -> ModelStoreSettings:
        if models.kind == "files" and models.path is None and "data_dir" in info.data:
            return models.model_copy(update={"path": info.data["data_dir"] / "models"})
        return models

    @field_validator("state")
    @classmethod
    def _state_in_data_dir(cls, state: StateStoreSettings, info: ValidationInfo) -> StateStoreSettings:
        if state.kind == "sqlite" and state.path is None and "data_dir" in info.data:
            return state.model_copy(update={"path": info.data["data_dir"] / "state.db"})
        if state.kind == "mongodb" and not state.database and "federation" in info.data:
            return state.model_copy(update={"database": _database_name(info.data["federation"])})
        return state

    def faults(self) -> Iterator[Fault]:
        secrets = [
            ("enrolment_secret", self.enrolment_secret),
            ("admin_secret", self.admin_secret),
            ("models.secret_key", self.models.secret_key),
            ("state.url", self.state.password),
        ]
        public = self.published_at is not None and not is_loopback(self.published_at)
        yield from secret_faults(secrets, allow_examples=self.allow_example_secrets and not public)
        if self.enrolment_secret is not None and self.enrolment_secret == self.admin_secret:
            yield Fault(
                "admin_secret",
                "same_secrets",
                "the admin secret and the enrolment secret are the same, so every site could become admin",
                "Set two different ones.",
            )
        if not self.tls and not is_loopback(self.bind):
            yield Fault(
                "tls",
                "tls_needed",
                f"TLS is off, but the reducer would listen at {self.bind}, where others can connect",
                "Leave tls on, or bind to 127.0.0.1.",
            )
        if self.mutual_tls and not self.tls:
            yield Fault(
                "mutual_tls", "tls_needed", "mutual TLS is on, but TLS is off", "Turn tls on, or mutual_tls off."
            )
        if self.public_url is not None and not re.fullmatch(r"https?://[^\s/@?#]+", self.public_url):
            yield Fault(
                "public_url", "bad_url", f"{self.public_url!r} is no address", "Write https://reducer.example.org:8090."
            )

    def url(self, port: int) -> str:
        """The address to hand out, when the reducer listens at `port`."""
        host = self.public_hosts[-1]
        shown = f"[{host}]" if ":" in host else host
        return self.public_url or f"{'https' if self.tls else 'http'}://{shown}:{port}"


def _database_name(federation: str) -> str:
    """A name that MongoDB takes; federations whose names differ only in what it refuses need databases set by hand."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", federation)
    return plain[:63]
