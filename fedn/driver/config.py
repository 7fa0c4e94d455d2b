"""The file of an experiment, FEDERATION.yaml: what to start or where to attach, what to train, what to write.

No secret stands in it: whoever attaches gives a context file, or a token in the environment.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedn.driver.metisfl import from_metisfl, is_metisfl
from fedn.plan.settings_base import UpdateStoreSettings
from fedn.plan.strict_yaml import read_mapping
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings

_FIX = "docs/how-to/run-an-experiment.md lists what the file may say."


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LocalTiers(_Section):
    """Processes on this machine, which end with the experiment."""

    clients: int = Field(default=5, ge=1, le=200)
    combiners: int = Field(default=2, ge=1, le=20)
    data_dir: Path = Path("fedn-driver")
    """Everything is kept here; another experiment in it goes on with its trail."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Of the reducer; none: 8090, or any free one."""
    seed: int = Field(default=0, ge=0)
    """Of every random choice: the data's split, and the plan where it names no seed."""
    tls: bool = True
    """Off: plain text, over this machine's loopback only."""
    updates: UpdateStoreSettings | None = None
    """Where combiners keep clients' latest updates, as their settings `updates.…`; none: their defaults."""
    cuda_devices: tuple[tuple[int, ...], ...] = ()
    """GPUs of the clients, as CUDA numbers them, in turn: [[0], [1]] gives every other client the second one."""


class RunningTiers(_Section):
    """A federation that runs already; it goes on when the experiment has ended."""

    context: Path | None = None
    """The reducer's admin.json; instead of the url."""
    url: str | None = None
    """The reducer's address. The token comes from FEDN_TOKEN, or the secret from FEDN_ALLIANCE_ADMIN_AUTH_TOKEN."""
    ca_file: Path | None = None
    """The federation's ca.crt."""

    @model_validator(mode="after")
    def _one_way_in(self) -> "RunningTiers":
        if (self.context is None) == (self.url is None):
            raise ValueError("name either the context file or the url")
        if self.context is not None and self.ca_file is not None:
            raise ValueError("the context file names the ca_file")
        return self


class FederationConfig(_Section):
    """One experiment. Relative paths start at the folder of its file."""

    name: str | None = None
    """Of the session, for people."""
    project: Path | None = None
    """Folder of a project, as `fedn new` makes it: code, plan, seed. None: the digits project, or, attached, what the
    federation has."""
    local: LocalTiers | None = None
    """What to start here; with neither local nor attach: one of the defaults."""
    attach: RunningTiers | None = None
    """Where to attach instead."""
    plan: dict[str, Any] = Field(default_factory=dict)
    """Fields of a session's plan; they stand over those of the project's plan.yaml."""
    seed_model: Path | None = None
    """A model to start from (safetensors or npz). None: the project's, or a randomly chosen client makes it."""
    statistics: Path | None = Path("statistics.json")
    """Where the statistics go; none: nowhere."""
    tensors: bool = False
    """Whether the statistics count the zeros of each tensor of each global model; downloads all of them."""
    model: Path | None = None
    """Where the last global model goes (safetensors)."""

    @model_validator(mode="after")
    def _one_place(self) -> "FederationConfig":
        if self.local is not None and self.attach is not None:
            raise ValueError("a federation is either started (local) or attached to (attach)")
        return self

    def under(self, folder: Path) -> "FederationConfig":
        """The same with relative paths from that folder."""
        changes: dict[str, object] = {
            name: folder / path
            for name in ("project", "seed_model", "statistics", "model")
            if (path := getattr(self, name)) is not None
        }
        if self.local is not None:
            changes["local"] = self.local.model_copy(update={"data_dir": folder / self.local.data_dir})
        if self.attach is not None:
            paths = {name: folder / path for name in ("context", "ca_file") if (path := getattr(self.attach, name))}
            changes["attach"] = self.attach.model_copy(update=paths)
        return self.model_copy(update=changes)


_SECTIONS: Mapping[str, type[_Section]] = {"local": LocalTiers, "attach": RunningTiers}


def read_federation(file: Path) -> FederationConfig:
    """An experiment's file.

    Raises:
        InvalidInput: `unreadable_file`, `bad_yaml`.
        InvalidSettings: with every fault of its content (`bad_federation`).
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InvalidInput(
            "unreadable_file", f"the file cannot be read: {error.strerror}", fix=_FIX, where={"file": file}
        ) from error
    return make_federation(read_mapping(text, name=str(file)), source=str(file)).under(file.parent)


def make_federation(content: Mapping[str, Any], *, source: str) -> FederationConfig:
    """An experiment from a mapping, which may have sections of MetisFL's.

    InvalidSettings (`bad_federation`, `metisfl_key`) names every fault with its field.
    """
    if is_metisfl(content):
        content = from_metisfl(content, source=source)
    try:
        return FederationConfig.model_validate(dict(content))
    except ValidationError as error:
        problems: list[FednError] = [_problem(detail) for detail in error.errors(include_url=False)]
        raise InvalidSettings(problems, what=f"The federation ({source})") from error


def _problem(detail: Mapping[str, Any]) -> FednError:
    path = [str(part) for part in detail["loc"]]
    message, fix = str(detail["msg"]).removeprefix("Value error, "), _FIX
    if detail["type"] == "extra_forbidden":
        section = _SECTIONS.get(path[0], FederationConfig)
        message = f"a federation has no such field; known here: {', '.join(section.model_fields)}"
        if near := difflib.get_close_matches(path[-1], section.model_fields, n=1):
            fix = f"Did you mean {near[0]!r}? {_FIX}"
    return InvalidInput("bad_federation", message, fix=fix, where={"field": ".".join(path) or "(file)"})
