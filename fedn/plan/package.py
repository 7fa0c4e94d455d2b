"""Compute packages: the code that clients run, packed with its manifest `fedn.yaml`.

Building, looking into, and unpacking them. Running what is in them is the client's business.
"""

import difflib
import io
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedn.plan.archive import ArchiveReader, Member, PackageLimits, pack
from fedn.plan.strict_yaml import MAX_BYTES, read_mapping
from fedn.protocol.errors import Conflict, InvalidInput, InvalidSettings, LimitExceeded

__all__ = [
    "MANIFEST",
    "EntryPoint",
    "PackageLimits",
    "PackageManifest",
    "build_package",
    "inspect_package",
    "read_manifest",
    "unpack_package",
]

MANIFEST = "fedn.yaml"
IGNORE_FILE = ".fednignore"
ALWAYS_IGNORED = ("__pycache__/", "*.pyc", ".git/", ".venv/", ".DS_Store", IGNORE_FILE)
SEED_FILES = ("seed/seed.safetensors", "seed/seed.npz", "seed.safetensors", "seed.npz")
"""Where a project keeps the model to start from, in the order in which they count."""
KEPT_HOME = ("/seed/", "/seed.safetensors", "/seed.npz", "/data/client-*/")
"""What a project may have beside its code: its seed, which goes to the reducer by itself, and data of the sandbox's
sites, which stays where it is. `.fednignore` can take each back (`!seed.npz`)."""

EntryPointName = Literal["build", "startup", "train", "validate", "predict"]


class EntryPoint(BaseModel):
    """A command, as one line or as a list of words. No shell reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str | list[str]

    @model_validator(mode="after")
    def _says_something(self) -> "EntryPoint":
        if not self.argv or not self.argv[0] or any("\0" in word for word in self.argv):
            raise ValueError("the command is empty, or has a character that no command can have")
        return self

    @property
    def argv(self) -> list[str]:
        """The words of the command; quotes work as in a shell. ValueError where one is not closed."""
        return shlex.split(self.command) if isinstance(self.command, str) else list(self.command)


def _inner_path(path: str) -> str:
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{path!r} is not the path of a file within the package")
    return path


class PackageManifest(BaseModel):
    """What `fedn.yaml` says. Either a command for `train` (and others), or a Learner, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="", max_length=200)
    entry_points: dict[EntryPointName, EntryPoint] = Field(default_factory=dict)
    learner: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
    """`module:Class` of a Learner, which then does what no command is given for."""
    format: Literal["safetensors", "npz"] = "safetensors"
    """Of the model files that commands read and write."""
    helper: str | None = Field(default=None, min_length=1)
    """Helper that the sessions of this package use, by its name."""
    extras: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Sets of extra state that the `train` command reads and writes, as files that the task names."""
    python_env: Annotated[str, AfterValidator(_inner_path)] | None = None
    """File in the package that lists what must be installed."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters, which a session's plan may override."""

    @model_validator(mode="after")
    def _can_work(self) -> "PackageManifest":
        if self.learner is None and not self.entry_points:
            raise ValueError("there are neither entry_points nor a learner: the package could do nothing")
        return self

    def command(self, name: EntryPointName) -> list[str] | None:
        """The words of a command; None where the package has none of that name."""
        entry = self.entry_points.get(name)
        return entry.argv if entry is not None else None


def read_manifest(text: str | bytes) -> PackageManifest:
    """The manifest in the text of a `fedn.yaml`.

    Raises:
        InvalidInput: (`bad_yaml`).
        InvalidSettings: every fault, each with code `bad_manifest` and its field.
    """
    content = read_mapping(text, name=MANIFEST)
    try:
        return PackageManifest.model_validate(content)
    except ValidationError as error:
        problems = [
            InvalidInput(
                "bad_manifest",
                f"{MANIFEST}: {detail['msg'].removeprefix('Value error, ')}",
                fix=_fix(detail["loc"]),
                where={"field": ".".join(map(str, detail["loc"])) or "(whole)"},
            )
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidSettings([*problems], what=f"the package's {MANIFEST}") from error


def build_package(folder: Path, limits: PackageLimits | None = None) -> bytes:
    """The package of a folder: a tar.gz of its files, equal to the byte for equal files.

    Left out is what `.fednignore` names (as in a `.gitignore`), caches, `.git` and `.venv`, and at the top a project's
    seed and the sandbox's data (KEPT_HOME).

    Raises:
        InvalidInput: `no_manifest`, `bad_manifest`, `unsafe_member` (a link or device), and as `inspect_package`.
        LimitExceeded: (`package_too_large`).
    """
    limits = limits or PackageLimits()
    if not (folder / MANIFEST).is_file():
        inner = next((path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))), None) if folder.is_dir() else None
        raise InvalidInput(
            "no_manifest",
            f"there is no {MANIFEST} in this folder",
            fix=f"Give {inner}, which has one." if inner else "Make one: `fedn new` makes a whole project.",
            where={"folder": folder},
        )
    files = [(path.relative_to(folder).as_posix(), path) for path in _files(folder)]
    total = sum(path.stat().st_size for _, path in files)
    if total > limits.max_unpacked_bytes or len(files) > limits.max_files:
        raise LimitExceeded(
            "package_too_large",
            f"the folder has {len(files)} files of {total} bytes together, more than a package may have",
            fix=f"Name data, models and environments in {IGNORE_FILE}.",
            where={"folder": folder},
        )
    packed = pack(files)
    inspect_package(packed, limits)
    return packed


def inspect_package(data: bytes | memoryview, limits: PackageLimits | None = None) -> PackageManifest:
    """The manifest of a package, after a check of the whole archive. Nothing is written anywhere.

    The manifest lies at the top, or in the one folder at the top (FEDn's `client/`).

    Raises:
        InvalidInput: `bad_archive`, `unsafe_path`, `unsafe_member`, `no_manifest`, `bad_yaml`, `bad_manifest`.
        InvalidSettings: the faults of the manifest.
        LimitExceeded: (`package_too_large`).
    """
    reader = ArchiveReader(io.BytesIO(data), limits or PackageLimits())
    texts: dict[str, bytes] = {}
    members = []
    for member in reader:
        members.append(member)
        if _may_be_manifest(member):
            if member.size_bytes > MAX_BYTES:
                raise LimitExceeded("yaml_too_large", f"{MANIFEST} is larger than {MAX_BYTES} bytes")
            texts[member.path] = b"".join(reader.pieces())
    return _checked_manifest(texts, members)[0]


def unpack_package(source: bytes | memoryview | Path, target: Path, limits: PackageLimits | None = None) -> Path:
    """Unpacks a package into a folder that is not there yet, whole or not at all.

    Args:
        source: the packed bytes, or a file with them.
        target: folder to make; its parent must be there.
        limits: bounds on the archive.

    Returns:
        The folder in `target` that holds `fedn.yaml`: where commands run.

    Raises:
        Conflict: (`folder_exists`) the target is there.
        As `inspect_package`; nothing is left behind.
    """
    if target.exists():
        raise Conflict("folder_exists", "the folder to unpack into is there already", where={"folder": target})
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:64]}.", dir=target.parent))
    try:
        with _opened(source) as packed:
            inner = _unpack(ArchiveReader(packed, limits or PackageLimits()), temporary)
        # As its files: who may come near is up to the folder around it. A container's user is not the client's.
        for folder in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target / inner


def _unpack(reader: ArchiveReader, folder: Path) -> str:
    texts: dict[str, bytes] = {}
    members = []
    for member in reader:
        members.append(member)
        place = folder / member.path
        if member.is_folder:
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        # `x`: nothing that is there is ever written to, whatever names the file system takes for equal.
        with place.open("xb") as file:
            for piece in reader.pieces():
                file.write(piece)
        place.chmod(0o755 if member.executable else 0o644)
        if _may_be_manifest(member):
            with place.open("rb") as file:
                texts[member.path] = file.read(MAX_BYTES + 1)
    return _checked_manifest(texts, members)[1]


def _opened(source: bytes | memoryview | Path) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _may_be_manifest(member: Member) -> bool:
    folder, _, name = member.path.rpartition("/")
    return name == MANIFEST and "/" not in folder and not member.is_folder


def _checked_manifest(texts: dict[str, bytes], members: list[Member]) -> tuple[PackageManifest, str]:
    """The manifest, and the folder in the archive that it lies in (empty: the top)."""
    tops = {member.path.partition("/")[0] for member in members}
    path = MANIFEST if MANIFEST in texts else f"{next(iter(tops))}/{MANIFEST}" if len(tops) == 1 else ""
    if path not in texts:
        raise InvalidInput(
            "no_manifest",
            f"the package has no {MANIFEST} at its top, nor in the only folder there",
            fix="Pack the folder that holds it: `fedn package create FOLDER`.",
        )
    folder = path.rpartition("/")[0]
    manifest = read_manifest(texts[path])
    files = {member.path for member in members if not member.is_folder}
    if manifest.python_env is not None and f"{folder}/{manifest.python_env}".lstrip("/") not in files:
        raise InvalidInput(
            "bad_manifest",
            f"{MANIFEST} names {manifest.python_env!r}, which is not in the package",
            fix=f"Put the file beside {MANIFEST}, or leave python_env out.",
            where={"field": "python_env"},
        )
    return manifest, folder


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder, sorted, without what is ignored. InvalidInput (`unsafe_member`) at a link or device."""
    ignore = folder / IGNORE_FILE
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    ignored = _Ignored([*ALWAYS_IGNORED, *KEPT_HOME, *lines])

    def walk(place: Path) -> Iterator[Path]:
        for path in sorted(place.iterdir()):
            name = path.relative_to(folder).as_posix()
            is_folder = path.is_dir() and not path.is_symlink()
            if ignored(name, is_folder=is_folder):
                continue
            if is_folder:
                yield from walk(path)
            elif path.is_symlink() or not path.is_file():
                raise InvalidInput(
                    "unsafe_member",
                    f"{name} is no plain file",
                    fix=f"Replace the link by what it points to, or name it in {IGNORE_FILE}.",
                    where={"folder": folder},
                )
            else:
                yield path

    return walk(folder)


class _Ignored:
    """Whether a path is ignored, by lines as in a `.gitignore`: the last line that fits decides; `!` takes back."""

    def __init__(self, lines: list[str]) -> None:
        stripped = [line.strip() for line in lines]
        self._rules = [_ignore_rule(line) for line in stripped if line and not line.startswith("#")]

    def __call__(self, path: str, *, is_folder: bool) -> bool:
        ignored = False
        for pattern, ignores, folders_only in self._rules:
            if (is_folder or not folders_only) and pattern.fullmatch(path):
                ignored = ignores
        return ignored


def _ignore_rule(line: str) -> tuple[re.Pattern[str], bool, bool]:
    """(pattern on the whole path, ignores rather than takes back, folders only)."""
    ignores, line = not line.startswith("!"), line.removeprefix("!")
    folders_only, line = line.endswith("/"), line.rstrip("/")
    anywhere = "" if "/" in line else "(?:.*/)?"
    words = {"/**/": "/(?:.*/)?", "**/": "(?:.*/)?", "/**": "/.*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(/\*\*/|^\*\*/|/\*\*$|\*|\?)", line.lstrip("/"))
    return re.compile(anywhere + "".join(words.get(t, re.escape(t)) for t in tokens), re.DOTALL), ignores, folders_only


def _fix(location: tuple[int | str, ...]) -> str:
    known = list(PackageManifest.model_fields)
    first = str(location[0]) if location else ""
    if first and first not in known:
        near = difflib.get_close_matches(first, known, n=1)
        return f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(known)}."
    if first == "entry_points":
        return "Entry points are build, startup, train, validate, predict, each with `command: python train.py`."
    return "See `fedn new`, which makes a package that works."
