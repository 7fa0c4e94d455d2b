"""A project: a folder with a compute package, and perhaps a plan, a seed model and data for each client."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fedn
from fedn.plan.package import MANIFEST, SEED_FILES, PackageManifest, build_package, inspect_package
from fedn.plan.strict_yaml import read_mapping
from fedn.protocol.errors import FednError, InvalidInput

DEFAULT_PROJECT = Path(fedn.__file__).resolve().parent.parent / "test-projects" / "digits"
_MODULES = {"sklearn": ("sklearn", "scikit-learn"), "pytorch": ("torch", "torch"), "keras": ("keras", "tensorflow-cpu")}
"""Helper to the module that it needs, and that module's package."""


@dataclass(frozen=True)
class Project:
    """What a sandbox trains."""

    folder: Path
    package: bytes
    """The compute package, packed."""
    manifest: PackageManifest
    plan: dict[str, Any]
    """Content of plan.yaml; empty without one."""
    seed: Path | None
    """A model to start from; None: a client makes it."""


def open_project(folder: Path | None) -> Project:
    """Reads a project that shall run on this machine.

    Raises:
        InvalidInput: as `read_project`.
        FednError: (`missing_framework`) what its helper needs is not installed.
    """
    project = read_project(folder)
    _check_framework(str(project.plan.get("helper", "")))
    return project


def read_project(folder: Path | None) -> Project:
    """Reads a project: `client/fedn.yaml` (or `fedn.yaml`), `plan.yaml`, and a seed (SEED_FILES).

    Raises:
        InvalidInput: `no_project`, or what is wrong in one of the files.
    """
    if folder is None and not DEFAULT_PROJECT.is_dir():
        raise _no_project(DEFAULT_PROJECT, "the digits project is not here: fedn was installed without its repository")
    folder = folder or DEFAULT_PROJECT
    if not folder.is_dir():
        raise _no_project(folder, "there is no such folder")
    inner = folder / "client" if (folder / "client" / MANIFEST).is_file() else folder
    if not (inner / MANIFEST).is_file():
        raise _no_project(folder, f"the folder has no client/{MANIFEST}")
    package = build_package(inner)
    manifest = inspect_package(package)
    plan_file = folder / "plan.yaml"
    plan = dict(read_mapping(plan_file.read_bytes(), name=str(plan_file))) if plan_file.is_file() else {}
    if manifest.helper is not None:
        plan.setdefault("helper", manifest.helper)
    return Project(
        folder=folder,
        package=package,
        manifest=manifest,
        plan=plan,
        seed=next((folder / name for name in SEED_FILES if (folder / name).is_file()), None),
    )


def data_path(folder: Path, client: str, index: int, count: int, seed: int, target: Path) -> Path:
    """The data directory of a client: the project's own `data/<client>` in its folder, or one made at `target`.

    The latter holds `partition.json`, `{"index": …, "count": …, "seed": …}`: the project's code cuts its piece by it.
    """
    own = folder / "data" / client
    if own.exists():
        return own
    target.mkdir(parents=True, exist_ok=True)
    (target / "partition.json").write_text(json.dumps({"index": index, "count": count, "seed": seed}) + "\n")
    return target


def _check_framework(helper: str) -> None:
    module, package = _MODULES.get(helper, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise FednError(
            "missing_framework",
            f"the project uses the helper {helper!r}, but {package} is not installed here",
            fix=f"pip install {package}, or choose another project with --project.",
            where={"helper": helper},
        )


def _no_project(folder: Path, why: str) -> InvalidInput:
    return InvalidInput(
        "no_project",
        why,
        fix="Make one: fedn new my-project, then: fedn sandbox --project my-project",
        where={"folder": folder},
    )
