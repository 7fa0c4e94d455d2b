"""What all settings share: how they are declared, how faults are told, and the settings of the stores.

Each setting of a program is a field of its model. `load_settings` fills them from a file, the environment and flags.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings

LogLevel = Literal["debug", "info", "warning", "error"]

EXAMPLE_SECRETS = frozenset(
    {
        "example-enrolment-secret-replace-me",
        "example-admin-secret-replace-me",
        "example-mongo-password-replace-me",
        "example-minio-secret-replace-me",
        "example-mongo-express-password-replace-me",
    }
)
"""The secrets in .env.example. Everybody knows them."""

MIN_SECRET_CHARACTERS = 12


def Secret(default: Any = None) -> Any:  # noqa: N802 - declares a field, like Field
    """A field whose value appears in no representation and no message."""
    return Field(default=default, repr=False, json_schema_extra={"secret": True})


class Fault(NamedTuple):
    """Something wrong with settings that are each right by themselves."""

    field: str
    """Dotted path of the field to change."""
    code: str
    message: str
    fix: str

    def as_error(self) -> FednError:
        return InvalidInput(self.code, self.message, fix=self.fix, where={"field": self.field})


class Settings(BaseModel):
    """Base of the programs' settings. Constructing one with contradictions raises InvalidSettings with all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    program: ClassVar[str]
    """Name of the program, for messages and environment names."""

    def faults(self) -> Iterator[Fault]:
        """What contradicts in these settings."""
        return iter(())

    @model_validator(mode="after")
    def _free_of_faults(self) -> Self:
        if found := [fault.as_error() for fault in self.faults()]:
            raise InvalidSettings(found, what=f"the settings of the {self.program}")
        return self


class LogSettings(Settings):
    log_level: LogLevel = "info"
    """The least that is worth a line."""
    log_format: Literal["human", "json"] = "human"
    """Lines for people, or one JSON object a line."""


class ModelStoreSettings(BaseModel):
    """Where models, server states and compute packages are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    kind: Literal["files", "memory", "s3"] = "files"
    """Folder on disk, memory (lost at the end), or a server that speaks S3."""
    path: Path | None = None
    """Folder, for `files`; by default `models` in the data directory."""
    endpoint: str | None = None
    """host or host:port of the S3 server."""
    bucket: str = "fedn"
    """Made where it is missing."""
    access_key: str | None = None
    """Name of the account at the S3 server."""
    secret_key: str | None = Secret()
    """Its secret; better given by the environment."""
    region: str | None = None
    """Region of the bucket; None: as the server says."""
    secure: bool = True
    """TLS to the S3 server."""
    ca_file: Path | None = None
    """Authority of the S3 server's certificate (PEM); the system's by default."""
    retention_days: int | None = Field(default=None, ge=1, le=36500)
    """Days that S3 object lock (COMPLIANCE) keeps each object from being deleted; None: no lock."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        s3_only = {"endpoint", "bucket", "access_key", "secret_key", "region", "secure", "ca_file", "retention_days"}
        needs = {"endpoint", "access_key", "secret_key"} if self.kind == "s3" else set()
        allowed = {"files": {"path"}, "memory": set(), "s3": s3_only}[self.kind]
        _check_kind(self, needs=needs, allowed=allowed)
        if self.endpoint is not None and not re.fullmatch(
            r"[^\s/:@]+(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?", self.endpoint
        ):
            raise PydanticCustomError("bad_endpoint", "endpoint must be host or host:port, without a scheme")
        return self


class StateStoreSettings(BaseModel):
    """Where the trail, sessions and events are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    kind: Literal["sqlite", "mongodb"] = "sqlite"
    """File on disk, or a MongoDB server."""
    path: Path | None = None
    """File, for `sqlite`; by default `state.db` in the data directory."""
    url: str | None = Secret()
    """mongodb://… address; may carry a user and password."""
    database: str = ""
    """Database in MongoDB; by default named after the federation."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        mongodb = self.kind == "mongodb"
        _check_kind(self, needs={"url"} if mongodb else set(), allowed={"url", "database"} if mongodb else {"path"})
        if self.url is not None and not re.match(r"mongodb(\+srv)?://[^\s/]", self.url):
            raise PydanticCustomError("bad_url", "url must look like mongodb://host:27017")
        if len(self.database.encode()) > 63 or re.search(r'[\s/\\."$*<>:|?\x00]', self.database):
            raise PydanticCustomError(
                "bad_database", 'database must be at most 63 bytes without space / \\ . " $ * < > : | ?'
            )
        return self

    @property
    def password(self) -> str | None:
        """The password in the address, if there is one."""
        return urlsplit(self.url).password if self.url else None


class UpdateStoreSettings(BaseModel):
    """Where a combiner keeps clients' latest updates, for rules that go by them in later rounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    kind: Literal["memory", "files", "redis", "off"] = "memory"
    """Memory (lost with the process), folder on disk, a Redis server, or nowhere: then such rules are refused."""
    max_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(2 << 30)
    """Of all kept updates together; one that does not fit is refused."""
    eviction: Literal["LineageLength", "NoEviction"] = "LineageLength"
    """What goes when a client's new update comes: its older ones beyond lineage_length, or nothing."""
    lineage_length: int = Field(default=1, ge=1, le=1000)
    """Updates kept of each client, with the eviction LineageLength."""
    path: Path | None = None
    """Folder, for `files`; by default `updates` in the data directory."""
    url: str | None = Secret()
    """redis://host:6379/0, or rediss://… with TLS."""
    username: str | None = None
    """Of the Redis user; None: its default user."""
    password: str | None = Secret()
    """Its password; better given by the environment."""
    ca_file: Path | None = None
    """Authority of the Redis server's certificate (PEM); the system's by default."""
    certificate_file: Path | None = None
    """Certificate to show to the Redis server (PEM), where it wants one."""
    key_file: Path | None = None
    """Its key (PEM)."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        always = {"max_bytes", "eviction", "lineage_length"}
        redis = {"url", "username", "password", "ca_file", "certificate_file", "key_file"}
        more = {"memory": set(), "files": {"path"}, "redis": redis, "off": set()}[self.kind]
        allowed = more if self.kind == "off" else more | always
        _check_kind(self, needs={"url"} if self.kind == "redis" else set(), allowed=allowed)
        if self.eviction == "NoEviction" and "lineage_length" in self.model_fields_set:
            raise PydanticCustomError("unused_setting", "the eviction NoEviction does not use lineage_length")
        self._check_address()
        return self

    def _check_address(self) -> None:
        if self.url is None:
            return
        if not re.fullmatch(r"rediss?://[^\s/?#]+(/\d*)?", self.url):
            raise PydanticCustomError("bad_url", "url must look like redis://host:6379/0, or rediss:// with TLS")
        tls_only = ("ca_file", "certificate_file", "key_file")
        if self.url.startswith("redis:") and any(getattr(self, name) is not None for name in tls_only):
            raise PydanticCustomError("unused_setting", "ca_file, certificate_file and key_file are for rediss://")
        if (self.certificate_file is None) != (self.key_file is None):
            raise PydanticCustomError("missing_setting", "certificate_file and key_file go together")
        if "@" in self.url and (self.username is not None or self.password is not None):
            raise PydanticCustomError("two_sources", "url names a user already; leave username and password out")

    @property
    def keeps(self) -> int | None:
        """Updates of each client that it keeps at the least; None: all."""
        if self.kind == "off":
            return 0
        return None if self.eviction == "NoEviction" else self.lineage_length


def _check_kind(settings: BaseModel, *, needs: set[str], allowed: set[str]) -> None:
    kind = getattr(settings, "kind")  # noqa: B009 - both stores have it, their common base does not
    given = settings.model_fields_set - {"kind"}
    if missing := sorted(name for name in needs if getattr(settings, name) is None):
        raise PydanticCustomError(
            "missing_setting", "the kind {kind} needs {names}", {"kind": kind, "names": ", ".join(missing)}
        )
    if unused := sorted(name for name in given - allowed if getattr(settings, name) is not None):
        raise PydanticCustomError(
            "unused_setting", "the kind {kind} does not use {names}", {"kind": kind, "names": ", ".join(unused)}
        )


def secret_faults(secrets: Iterable[tuple[str, str | None]], *, allow_examples: bool) -> Iterator[Fault]:
    """Faults of (field, secret) pairs that everybody knows."""
    for field, secret in secrets:
        if secret in EXAMPLE_SECRETS and not allow_examples:
            yield Fault(
                field,
                "example_secret",
                "this secret stands in .env.example, so everybody knows it",
                "Set one of your own, for example from `openssl rand -base64 32`.",
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address stays within this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_secret(secret: str) -> str:
    if len(secret) < MIN_SECRET_CHARACTERS or not secret.isprintable() or secret != secret.strip():
        raise PydanticCustomError(
            "weak_secret", f"a secret needs at least {MIN_SECRET_CHARACTERS} printable characters, no space at its ends"
        )
    return secret


OwnSecret = Annotated[str, AfterValidator(_own_secret)]
"""A secret that an operator chose."""

Port = Annotated[int, Field(ge=0, le=65535)]
"""0: any free port."""
