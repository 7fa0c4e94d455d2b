"""Python environments that compute packages ask for (`python_env`): a venv with the requirements, made once.

Each sees what the running client has installed, its own fedn above all; a requirement named fedn is never installed.
"""

import hashlib
import re
import shutil
import site
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import yaml

import fedn
from fedn.client.command import Limits, clean_environment, run_command
from fedn.protocol.errors import TaskFailed

_READY = "fedn-ready"
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_OWN = "fedn"
_PIP_TIMEOUT_S = 1800.0


async def make_environment(requirements_file: Path, folder: Path) -> Path:
    """The interpreter of an environment with the requirements; made in `folder` if it is not there.

    Args:
        requirements_file: YAML with `dependencies`, a list of pip requirements (FEDn's python_env.yaml), or a plain
            requirements file (.txt).

    Raises:
        TaskFailed: `bad_python_env`; `environment_failed` with pip's last words.
    """
    requirements = read_requirements(requirements_file)
    place = folder / _digest(requirements)
    python = place / "bin" / "python"
    if (place / _READY).exists():
        return python
    if place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        venv.create(place, symlinks=True, with_pip=False)
        _show_own_packages(place)
        if requirements:
            await _install(requirements, python)
        (place / _READY).touch()
    except OSError as error:
        raise TaskFailed("environment_failed", f"the Python environment cannot be made: {error}") from error
    return python


def read_requirements(path: Path) -> list[str]:
    """The pip requirements, without fedn itself. TaskFailed (`bad_python_env`) where the file is something else."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, f"it cannot be read as text: {error}") from error
    if path.suffix == ".txt":
        lines: Any = [line.split("#")[0].strip() for line in text.splitlines()]
    else:
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise _bad(path, f"it is no YAML: {error}") from error
        lines = content.get("dependencies", []) if isinstance(content, dict) else None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise _bad(path, "it has no list of requirements under `dependencies`")
    found = []
    for line in filter(None, lines):
        match = _NAME.match(line)
        if match is None:
            raise _bad(path, f"{line!r} is no requirement; options of pip are not taken from a package")
        if re.sub(r"[-_.]+", "-", match.group(1)).lower() != _OWN:
            found.append(line)
    return found


async def _install(requirements: list[str], python: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-input",
        "--disable-pip-version-check",
    ]
    try:
        await run_command(
            "pip install",
            [*argv, "--quiet", "--", *requirements],
            folder=python.parent,
            environment=clean_environment({}, Path(sys.executable)),
            limits=Limits(timeout_s=_PIP_TIMEOUT_S),
        )
    except TaskFailed as error:
        raise TaskFailed(
            "environment_failed",
            f"what the compute package requires cannot be installed: {error.message}",
            fix="Install it beforehand into the environment that runs the client, or give it a package index: "
            + ", ".join(requirements),
        ) from error


def _show_own_packages(place: Path) -> None:
    """Lets the environment see the client's own packages, after what it has itself."""
    folders = [str(Path(fedn.__file__).parent.parent), *site.getsitepackages()]
    lines = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in dict.fromkeys(folders))
    own = Path(sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)}))
    (own / "fedn-client.pth").write_text(lines, encoding="utf-8")


def _digest(requirements: list[str]) -> str:
    parts = "\0".join([*sorted(requirements), sys.version, sys.prefix, fedn.__version__])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _bad(path: Path, why: str) -> TaskFailed:
    return TaskFailed("bad_python_env", f"{path.name} cannot be used: {why}", where={"file": path})
