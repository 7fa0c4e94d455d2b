"""Compute packages on this client: unpacked once by digest, opened as the runtime that their manifest asks for."""

import asyncio
import shutil
from pathlib import Path

from fedn.client.command import Limits
from fedn.client.isolation.places import Isolation, Needs
from fedn.client.objects import Held
from fedn.client.runtime_learner import LearnerRuntime, LearnerSettings
from fedn.client.runtime_package import PackageRuntime
from fedn.client.slots import HeldFile
from fedn.plan.package import MANIFEST, PackageManifest, read_manifest, unpack_package
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import FednError, TaskFailed
from fedn.protocol.names import check_digest

_KEPT = 3
"""Unpacked packages that stay on disk."""


class PackageRuntimes:
    """Makes runtimes of packages.

    Args:
        settings: of this client.
        folder: where packages are kept, and tasks have theirs.
        isolation: where they run.
    """

    def __init__(self, settings: ClientSettings, folder: Path, isolation: Isolation) -> None:
        self._settings = settings
        self._isolation = isolation
        self._packages = folder / "packages"
        self._scratch = folder / "tasks"

    async def unpacked(self, package_id: str, packed: Held, work_dir: Path) -> PackageRuntime:
        """The runtime of a package of the federation. TaskFailed (`bad_package` …) says what is wrong with it."""
        algorithm, digits = check_digest(package_id)
        target = self._packages / f"{algorithm}-{digits}"
        self._packages.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if not target.exists():
                await asyncio.to_thread(unpack_package, packed.path if isinstance(packed, HeldFile) else packed, target)
            target.touch()
            self._forget_old()
        except FednError as error:
            raise TaskFailed(
                error.code, f"the compute package cannot be used: {error.message}", fix=error.fix
            ) from error
        except OSError as error:
            raise TaskFailed("bad_package", f"the compute package cannot be unpacked: {error}") from error
        inner = target if (target / MANIFEST).exists() else next(path for path in target.iterdir() if path.is_dir())
        return await self._open(inner, target, work_dir)

    async def local(self, folder: Path, work_dir: Path) -> PackageRuntime:
        """The runtime of the owner's own package folder: the folder with fedn.yaml, or the one with `client/` in it."""
        return await self._open(*_layout(folder), work_dir)

    async def _open(self, folder: Path, root: Path, work_dir: Path) -> PackageRuntime:
        manifest = self._manifest(folder)
        requirements = folder / manifest.python_env if manifest.python_env is not None else None
        place = await self._isolation.place(
            Needs(root=root, work_dir=work_dir, requirements=requirements, learner=manifest.learner is not None)
        )
        settings = self._settings
        learner = None
        if manifest.learner is not None:
            learner = LearnerRuntime(
                LearnerSettings(
                    learner=manifest.learner,
                    folder=folder,
                    client=settings.name,
                    data_path=settings.data_path,
                    work_dir=work_dir,
                    output_bytes=settings.output_bytes,
                ),
                place,
            )
        return PackageRuntime(
            manifest,
            folder,
            root=root,
            scratch=self._scratch,
            learner=learner,
            place=place,
            client=settings.name,
            data_path=settings.data_path,
            work_dir=work_dir,
            limits=Limits(
                timeout_s=settings.task_timeout_s,
                memory_bytes=settings.memory_bytes,
                output_bytes=settings.output_bytes,
            ),
        )

    def _manifest(self, folder: Path) -> PackageManifest:
        try:
            return read_manifest((folder / MANIFEST).read_bytes())
        except FednError as error:
            raise TaskFailed(error.code, f"the compute package cannot be used: {error}", fix=error.fix) from error
        except OSError as error:
            raise TaskFailed(
                "no_manifest", f"there is no {MANIFEST}: {error.strerror}", where={"folder": folder}
            ) from error

    def _forget_old(self) -> None:
        kept = sorted(self._packages.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[_KEPT:]:
            shutil.rmtree(path)


def _layout(folder: Path) -> tuple[Path, Path]:
    """(folder of the manifest, outermost folder) of a package folder, as absolute paths."""
    root = folder.absolute()
    return (root if (root / MANIFEST).exists() else root / "client"), root
