"""The settings of a client. Everything in them acts."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ByteSize, Field, ValidationInfo, field_validator

from fedn.plan.settings_base import Fault
from fedn.plan.settings_fields import MIB, Digest, Name, Seconds, Size
from fedn.plan.settings_site import SiteSettings


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
