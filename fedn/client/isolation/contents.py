"""What an image has, asked by running Python there: whether packages could work in it, and what is missing."""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, ValidationError

from fedn import __version__
from fedn.client.python_env import read_requirements
from fedn.protocol.errors import TaskFailed

ANSWER = "contents.json"
_MAX_BYTES = 4 << 20
_SCRIPT = """
import json, os, platform, sys
from importlib import metadata
answer, work, *folders = sys.argv[1:]
found = {str(one.metadata["Name"]): str(one.version) for one in metadata.distributions()}
unreadable = [name for name in folders if not os.access(name, os.R_OK | (os.X_OK if os.path.isdir(name) else 0))]
content = {"python": platform.python_version(), "packages": found, "unreadable": unreadable,
           "work_is_writable": os.access(work, os.W_OK | os.X_OK)}
with open(answer, "w") as file:
    json.dump(content, file)
"""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    python: str
    packages: dict[str, str]
    unreadable: list[str]
    work_is_writable: bool


@dataclass(frozen=True)
class Contents:
    """What was found in a container that was made as those of packages are."""

    image: str
    """Its name, for messages."""
    python: str
    packages: Mapping[str, str]
    """Version by normalised name."""
    unreadable: tuple[str, ...]
    """Of the owner's data folders."""
    work_is_writable: bool

    def check_learner(self) -> None:
        """TaskFailed (`image_without_fedn`) where a Learner could not run: its worker is this very fedn."""
        found = self.packages.get("fedn")
        if found != __version__:
            have = f"fedn {found}" if found else "no fedn"
            raise TaskFailed(
                "image_without_fedn",
                f"a Learner needs fedn {__version__}, as this client is, and the image {self.image} has {have}",
                fix=f"Build an image with fedn {__version__} and what the package needs; "
                "the documentation on isolation says how.",
            )

    def check_requirements(self, file: Path) -> None:
        """TaskFailed (`environment_not_in_image`) names what a package requires and the image does not have.

        Nothing is installed: that would need a network, and run code of others.
        """
        missing = [text for line in read_requirements(file) if (text := self._missing(line))]
        if missing:
            raise TaskFailed(
                "environment_not_in_image",
                f"the image {self.image} does not have what the compute package requires: {', '.join(missing)}",
                fix="Build an image that has it. Isolated packages get no environment of their own.",
            )

    def _missing(self, line: str) -> str:
        try:
            required = Requirement(line)
        except InvalidRequirement as error:
            raise TaskFailed("bad_python_env", f"{line!r} is no requirement: {error}") from error
        if required.marker is not None and not required.marker.evaluate({"python_full_version": self.python}):
            return ""
        have = self.packages.get(canonicalize_name(required.name))
        if have is None:
            return f"{required} (there is none)"
        if required.url is None and required.specifier.contains(have, prereleases=True):
            return ""
        return f"{required} (there is {have})"


def question(folder: Path, work_dir: Path, data: list[Path]) -> list[str]:
    """The command that writes the answer into a folder."""
    return ["python3", "-c", _SCRIPT, str(folder / ANSWER), str(work_dir), *map(str, data)]


def read_answer(folder: Path, image: str) -> Contents:
    """TaskFailed (`bad_image`) where there is no answer, or one that is none."""
    path = folder / ANSWER
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
            raise ValueError("it is no such file")
        answer = _Answer.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError) as error:
        raise TaskFailed("bad_image", f"the python3 of the image {image} does not say what it has: {error}") from error
    packages = {str(canonicalize_name(name)): version for name, version in answer.packages.items()}
    return Contents(image, answer.python, packages, tuple(answer.unreadable), answer.work_is_writable)
