"""Chooses what runs a task: the site's own Learner, a local compute package, or the federation's package by digest."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from fedn.client.calls import Runtime
from fedn.client.isolation.choice import isolation_of
from fedn.client.isolation.processes import ProcessPlace
from fedn.client.objects import Held
from fedn.client.packages import PackageRuntimes
from fedn.client.runtime_learner import LearnerRuntime, LearnerSettings
from fedn.network.generated import common_pb2 as common
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskKind, TaskSpec

Fetch = Callable[[str, common.ObjectKind], Awaitable[Held]]


class Runtimes:
    """The runtime of the moment. One at a time: another package ends the one before it.

    Args:
        settings: of this client.
        folder: for packages, environments and the work directory.
        fetch: gets an object by digest and kind.
    """

    def __init__(self, settings: ClientSettings, folder: Path, fetch: Fetch) -> None:
        self._settings = settings
        self._fetch = fetch
        self._isolation = isolation_of(settings, folder)
        self._packages = PackageRuntimes(settings, folder, self._isolation)
        self._work_dir = folder / "work"
        self._runtime: Runtime | None = None
        self._source = ""
        """`learner`, `local`, or the digest of the package that `_runtime` runs."""
        self._changing = asyncio.Lock()

    @property
    def kinds(self) -> frozenset[TaskKind]:
        """What this client offers: what its owner allows and, as far as known, what its code can do."""
        allowed = {TaskKind.PREDICT}
        if self._settings.trainer:
            allowed |= {TaskKind.INIT, TaskKind.TRAIN}
        if self._settings.validator:
            allowed |= {TaskKind.VALIDATE}
        return frozenset(allowed if self._runtime is None else allowed & self._runtime.kinds)

    async def start(self) -> None:
        """Makes ready what is known before the first task.

        Raises:
            TaskFailed: the site's own code does not load, or nothing can be isolated as the settings want it.
        """
        self._work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._isolation.start()
        if self._settings.learner is not None or self._settings.package not in {"remote", "none"}:
            await self._ready(self._chosen(""))

    def needs(self, package_id: str) -> bool:
        """Whether tasks with this package are done with it, and it is not the one of the moment."""
        return bool(package_id) and self._source != package_id and self._chosen(package_id) == package_id

    async def prepare(self, package_id: str) -> None:
        """Gets a package ready before a task asks for it. TaskFailed as `for_task`."""
        if self.needs(package_id):
            await self._ready(package_id)

    async def for_task(self, task: TaskSpec) -> Runtime:
        """The runtime for a task, ready.

        Raises:
            TaskFailed: `no_learner`, `package_not_pinned`, or the code does not load; the text says why.
        """
        return await self._ready(self._chosen(task.package_id))

    async def close(self) -> None:
        await self._end_runtime()
        await self._isolation.close()

    async def _end_runtime(self) -> None:
        if self._runtime is not None:
            await self._runtime.close()
            self._runtime = None

    def _chosen(self, package_id: str) -> str:
        if self._settings.learner is not None:
            return "learner"
        if self._settings.package not in {"remote", "none"}:
            return "local"
        if not package_id:
            raise TaskFailed(
                "no_learner",
                "the session has no compute package, and this client has no learner of its own",
                fix="Start the client with --learner, or the session with a compute package.",
            )
        pins = self._settings.package_pins
        if pins and package_id not in pins:
            raise TaskFailed(
                "package_not_pinned",
                f"the owner of this client allows other compute packages than {package_id}",
                fix="The owner may add the digest to package_pins after looking at the package.",
            )
        return package_id

    async def _ready(self, source: str) -> Runtime:
        runtime = self._runtime
        if runtime is not None and self._source == source:
            return runtime
        async with self._changing:
            if self._runtime is not None and self._source == source:
                return self._runtime
            await self._end_runtime()
            runtime = await self._make(source)
            await runtime.start()
            self._runtime, self._source = runtime, source
            return runtime

    async def _make(self, source: str) -> Runtime:
        if source == "learner":
            assert self._settings.learner is not None
            return LearnerRuntime(
                LearnerSettings(
                    learner=self._settings.learner,
                    folder=None,
                    client=self._settings.name,
                    data_path=self._settings.data_path,
                    work_dir=self._work_dir,
                    output_bytes=self._settings.output_bytes,
                ),
                ProcessPlace(Path(sys.executable), self._settings.memory_bytes),
            )
        if source == "local":
            return await self._packages.local(Path(self._settings.package), self._work_dir)
        held = await self._fetch(source, common.OBJECT_KIND_PACKAGE)
        return await self._packages.unpacked(source, held, self._work_dir)
