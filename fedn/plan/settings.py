"""The settings of the three programs. Everything in them acts.

Loaded by `load_settings`: defaults, then a YAML file, then the environment, then flags. What a session does stands in
its plan (`session`), not here.
"""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ByteSize, Field, ValidationInfo, field_validator

from fedn.plan.settings_base import (
    EXAMPLE_SECRETS,
    Fault,
    LogSettings,
    ModelStoreSettings,
    OwnSecret,
    Port,
    Secret,
    Settings,
    StateStoreSettings,
    UpdateStoreSettings,
    is_loopback,
    secret_faults,
)
from fedn.plan.settings_load import load_settings
from fedn.protocol.errors import InvalidInput
from fedn.protocol.names import check_digest, check_name

__all__ = [
    "EXAMPLE_SECRETS",
    "ClientSettings",
    "CombinerSettings",
    "ModelStoreSettings",
    "ReducerSettings",
    "Settings",
    "SiteSettings",
    "StateStoreSettings",
    "UpdateStoreSettings",
    "load_settings",
]

MIB = 1 << 20
GIB = 1 << 30


def _name(text: str) -> str:
    try:
        return check_name(text, what="site")
    except InvalidInput as error:
        raise ValueError(error.message) from error


def _digest(text: str) -> str:
    try:
        check_digest(text)
    except InvalidInput as error:
        raise ValueError(error.message) from error
    return text


Name = Annotated[str, AfterValidator(_name)]
Digest = Annotated[str, AfterValidator(_digest)]
Size = Annotated[ByteSize, Field(gt=0)]
"""Bytes; a file or the environment may say `512MiB`."""
Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]


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


class SiteSettings(LogSettings):
    """What combiners and clients share: how they find the federation, and where they keep their identity."""

    join: str | None = Secret()
    """Join string (`fedn token create`); stands for the four settings below."""
    reducer_url: str | None = None
    """Address of the reducer, https://host:port."""
    ca_fingerprint: str | None = None
    """`sha256:` of the authority's certificate."""
    ca_file: Path | None = None
    """The authority's certificate (PEM), instead of its fingerprint. Waited for where its folder is there already."""
    enrolment_secret: str | None = Secret()
    """Needed at the first start only."""

    def faults(self) -> Iterator[Fault]:
        parts = [
            name
            for name in ("reducer_url", "ca_fingerprint", "ca_file", "enrolment_secret")
            if getattr(self, name) is not None
        ]
        if self.join is not None:
            # The secret may be there still, in an environment shared with the reducer; it says the same.
            yield from (
                Fault(name, "two_sources", f"both a join string and {name} are given", "Give one of them.")
                for name in parts
                if name != "enrolment_secret"
            )
        elif self.reducer_url is None:
            yield Fault(
                "join",
                "missing_setting",
                "nothing says where the reducer is",
                "Give the join string that `fedn token create` prints at the reducer, or reducer_url.",
            )
        elif self.reducer_url.startswith("https:") and self.ca_fingerprint is None and self.ca_file is None:
            yield Fault(
                "ca_fingerprint",
                "missing_setting",
                "nothing says which authority the reducer's certificate comes from",
                "Give ca_fingerprint, or ca_file (ca.crt from the reducer's data directory), or a join string.",
            )
        if self.ca_fingerprint is not None and self.ca_file is not None:
            yield Fault("ca_file", "two_sources", "both ca_fingerprint and ca_file are given", "Give one of them.")


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


class ClientSettings(SiteSettings):
    """Tier 3: trains on data that stay where they are."""

    program: ClassVar[str] = "client"

    name_base: str = Field(default="client", min_length=1, max_length=48)
    """Begins the name of a client that is given none, before the host's (the container's) name."""
    name: Name = Field(default="", validate_default=True)
    """By default name_base and the host's name."""
    data_dir: Path = Path("fedn-data/client")
    """Identity, downloads, and results that are not delivered yet."""
    combiner: Name | None = None
    """Preferred combiner."""
    learner: str | None = None
    """`module:Class` or `file.py:Class` of a Learner of one's own; then no compute package is fetched."""
    package: str = Field(default="remote", min_length=1)
    """`remote`: the federation's compute package; `none`; or the folder of a local one."""
    data_path: Path | None = None
    """Handed to the code that trains."""
    trainer: bool = True
    """Takes tasks to train."""
    validator: bool = True
    """Takes tasks to validate."""
    task_timeout_s: Seconds = 3600.0
    """Seconds after which a task's process is ended."""
    memory_bytes: Size | None = None
    """Memory of a task: address space of its process (None: no limit), or all that its container may use (None: three
    quarters of the machine's)."""
    output_bytes: Size = ByteSize(10 * MIB)
    """So much of what a task prints goes to the client's log; the rest is dropped."""
    package_pins: list[Digest] = Field(default_factory=list)
    """Digests of the compute packages that may run here; empty: any that the federation chose."""
    isolation: Literal["process", "docker"] = "process"
    """What a compute package's code runs in: a subprocess with this user's rights, or a locked-down container."""
    isolation_image: str | None = Field(default=None, min_length=1)
    """Image of the container, which must be on this machine: with python3, fedn, and what packages need."""
    isolation_cpus: Annotated[float, Field(ge=0.01, le=4096)] | None = None
    """Processors that the container may use; None: all."""
    isolation_pids: int = Field(default=512, ge=16, le=1 << 22)
    """Processes and threads that the container may have."""
    data_folders: list[Path] = Field(default_factory=list)
    """Folders beside data_path that the container may read."""
    encryption_key: Path | None = None
    """File of the key that data owners share (`fedn keys create`): nothing that holds tensors leaves unencrypted."""
    attributes: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What the federation may know of this client."""
    progress_s: Seconds = 30.0
    """Seconds without a byte after which a transfer counts as stuck."""

    def anchored(self) -> "ClientSettings":
        """The same with absolute paths: a client's code runs in folders of its own."""
        data_path = self.data_path.absolute() if self.data_path is not None else None
        folders = [folder.absolute() for folder in self.data_folders]
        key = self.encryption_key.absolute() if self.encryption_key is not None else None
        return self.model_copy(
            update={
                "data_dir": self.data_dir.absolute(),
                "data_path": data_path,
                "data_folders": folders,
                "encryption_key": key,
            }
        )

    @field_validator("name", mode="before")
    @classmethod
    def _named(cls, name: object, info: ValidationInfo) -> object:
        return name or f"{info.data.get('name_base', 'client')}-{socket.gethostname()}"[:64]

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not (self.trainer or self.validator):
            yield Fault("trainer", "no_work", "the client would neither train nor validate", "Leave one of the two on.")
        if self.learner is not None and not re.fullmatch(r"([\w.]+|.+\.py):[A-Za-z_]\w*", self.learner):
            yield Fault(
                "learner", "bad_learner", f"{self.learner!r} names no class", "Write module:Class or file.py:Class."
            )
        if self.learner is not None and self.package not in {"remote", "none"}:
            yield Fault("learner", "two_sources", "both a learner and a local package are given", "Give one of them.")
        if self.package == "none" and self.learner is None:
            yield Fault(
                "learner", "missing_setting", "without a compute package there must be a learner", "Give --learner."
            )
        yield from self._isolation_faults()

    def _isolation_faults(self) -> Iterator[Fault]:
        if self.isolation == "process":
            for name in ("isolation_image", "isolation_cpus", "isolation_pids", "data_folders"):
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                    yield Fault(
                        name,
                        "unused_setting",
                        f"{name} is about containers, but packages would run as processes",
                        "Set isolation to docker, or leave it out.",
                    )
            return
        if self.isolation_image is None:
            yield Fault(
                "isolation_image",
                "missing_setting",
                "nothing says which image packages run in",
                "Name one that is on this machine: with python3, fedn, and what the packages need.",
            )
        if self.learner is not None:
            yield Fault(
                "isolation",
                "unused_setting",
                "the site's own learner runs as a process, never in a container",
                "Leave isolation out, or make a compute package of the learner (package: its folder).",
            )
        seen = [("data_folders", folder) for folder in self.data_folders]
        seen += [("data_path", self.data_path)] if self.data_path is not None else []
        seen += [("package", Path(self.package))] if self.package not in {"remote", "none"} else []
        for name, folder in seen:
            if self.data_dir.resolve().is_relative_to(folder.resolve()):
                yield Fault(
                    name,
                    "keys_exposed",
                    f"{folder} holds data_dir with this client's key, so packages could read it",
                    "Give a data_dir elsewhere.",
                )


def _database_name(federation: str) -> str:
    """A name that MongoDB takes; federations whose names differ only in what it refuses need databases set by hand."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", federation)
    return plain[:63]
