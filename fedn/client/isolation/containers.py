"""Places that are containers: without network, read-only, without rights, with limits, and gone after their work.

A command has a container of its own; a Learner's worker keeps one. Paths are the same there as here, so that what the
code is told is true in both. The image is the owner's: with python3, and for Learners with this very fedn.
"""

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fedn.client.calls import TaskCall
from fedn.client.command import CODE_LOG, LAST_WORDS_S, Limits, ending, step_failed, timed_out
from fedn.client.isolation.contents import Contents, question, read_answer
from fedn.client.isolation.engine import Bind, Engine, Start
from fedn.client.isolation.exchange import (
    FEEDBACK,
    GUARD,
    RESULTS,
    RUN,
    SOCKET,
    Exchange,
    copy_outcome,
    hand_over,
    sweep,
)
from fedn.client.isolation.places import Ending, Needs
from fedn.client.isolation.reasons import explained
from fedn.client.isolation.running import Container, Report, accept
from fedn.client.objects import disk_error
from fedn.client.output import Output
from fedn.client.slots import HeldFile
from fedn.client.worker_channel import AgentEnd
from fedn.plan.allocator import LARGE_BUFFERS
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import TaskFailed

_LOG = logging.getLogger(__name__)
_NOBODY = (65534, 65534)
_START_S = 120.0
_LOOK_S = 120.0
_ENGINE_THREADS = 4
_ENVIRONMENT = {"HOME": "/tmp", "TMPDIR": "/tmp", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108
_WORKER = ("python3", "-P", "-m", "fedn.client.worker", "{channel}")
T = TypeVar("T")


class ContainerIsolation:
    """See `fedn.client.isolation.places.Isolation`.

    Args:
        settings: of the client, with absolute paths.
        folder: the client's own, which belongs to this process.
    """

    def __init__(self, settings: ClientSettings, folder: Path) -> None:
        self._settings = settings
        self._data_dir = folder
        self.folder = folder / "isolation"
        self.feedback = self.folder / "feedback"
        own = (os.geteuid(), os.getegid())
        self.user = own if own[0] else _NOBODY
        self.memory_bytes = int(settings.memory_bytes or psutil.virtual_memory().total * 3 // 4)
        self.pids = settings.isolation_pids
        self._threads = ThreadPoolExecutor(_ENGINE_THREADS, thread_name_prefix="fedn-docker")
        self._engine: Engine | None = None
        self._image_id = ""
        self._contents: Contents | None = None

    async def start(self) -> str:
        image = self._settings.isolation_image or ""
        try:
            for folder in (self.folder, self.feedback):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            hand_over(self.feedback, self.user)
        except OSError as error:
            raise disk_error(error, "the folder for isolated packages", self.folder) from error
        engine = self._engine = await self.in_thread(Engine)
        version = await self.in_thread(engine.check)
        if found := await self.in_thread(lambda: engine.sweep(self._data_dir)):
            _LOG.warning("removed %d containers that an earlier client left", found)
        await self.in_thread(lambda: sweep(self.folder))
        self._image_id = await self.in_thread(lambda: engine.image_id(image))
        contents = self._contents = await self._look(image)
        fedn = contents.packages.get("fedn")
        return f"Docker {version} runs {image}: Python {contents.python}, {f'fedn {fedn}' if fedn else 'without fedn'}"

    async def place(self, needs: Needs) -> "ContainerPlace":
        assert self._contents is not None  # started
        if needs.learner:
            self._contents.check_learner()
        if needs.requirements is not None:
            self._contents.check_requirements(needs.requirements)
        hand_over(needs.work_dir, self.user)
        return ContainerPlace(self, [Bind(source=needs.root, target=str(needs.root))], needs.work_dir)

    async def close(self) -> None:
        if self._engine is not None:
            await self.in_thread(self._engine.close)
        await asyncio.to_thread(self._threads.shutdown)

    async def run(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        binds: Sequence[Bind],
        output: Output,
        with_channel: bool = False,
    ) -> tuple[Container, AgentEnd | None]:
        """Starts a container and returns it when its guard has connected. TaskFailed (`container_not_started` …)."""
        try:
            exchange = await asyncio.to_thread(Exchange, self.folder, self.user)
        except OSError as error:
            raise disk_error(error, "the files of a container", self.folder) from error
        try:
            binds = [*self._data(), *binds, Bind(source=exchange.run, target=RUN)]
            if with_channel:
                binds.append(Bind(source=exchange.results, target=RESULTS, writable=True))
                binds.append(Bind(source=self.feedback, target=FEEDBACK, writable=True))
            with exchange.listen() as listening:
                listening.setblocking(False)
                container_id = await self._start(words, folder, environment, binds)
                streams = await self._connected(listening, container_id, 3 if with_channel else 2)
            channel = await AgentEnd.open(streams[2]) if with_channel else None
            lifeline = await asyncio.open_unix_connection(sock=streams[0])
            prints = await asyncio.open_unix_connection(sock=streams[1])
        except BaseException:
            exchange.close()
            raise
        return Container(lifeline, prints, output, exchange, lambda: self._removing(container_id)), channel

    def in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Calls of the engine block."""
        return asyncio.get_running_loop().run_in_executor(self._threads, function)

    def _removing(self, container_id: str) -> asyncio.Future[None]:
        assert self._engine is not None
        engine = self._engine
        return asyncio.shield(self.in_thread(lambda: engine.remove(container_id)))

    async def _start(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], binds: Sequence[Bind]
    ) -> str:
        assert self._engine is not None
        engine = self._engine
        start = Start(
            image_id=self._image_id,
            words=("python3", "-I", "-S", GUARD, SOCKET, *words),
            folder=str(folder),
            environment=_ENVIRONMENT | dict(environment),
            binds=list({bind.target: bind for bind in binds}.values()),
            user=f"{self.user[0]}:{self.user[1]}",
            groups=[] if self.user == _NOBODY else [group for group in os.getgroups() if group],
            memory_bytes=self.memory_bytes,
            pids=self.pids,
            cpus=self._settings.isolation_cpus,
            data_dir=self._data_dir,
        )
        return await self.in_thread(lambda: engine.start(start))

    async def _connected(self, listening: socket.socket, container_id: str, count: int) -> list[socket.socket]:
        """The guard's connections. A container that nobody waits for any more ends by itself: its lifeline is cut."""
        assert self._engine is not None
        engine = self._engine
        accepting = asyncio.create_task(accept(listening, count))
        ended = self.in_thread(lambda: engine.wait(container_id))
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # mostly nobody asks for it
        first: set[asyncio.Future[Any]] = {accepting, ended}
        try:
            await asyncio.wait(first, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():  # a short command may be over before its connections are taken: they wait all the same
                await asyncio.wait({accepting}, timeout=LAST_WORDS_S)
        finally:
            if not accepting.done():
                accepting.cancel()
        if accepting.done() and not accepting.cancelled():
            return accepting.result()
        how = f"ended with status {ended.result()} before it began" if ended.done() else "did not begin"
        if not ended.done():
            await self._removing(container_id)
        raise TaskFailed(
            "container_not_started",
            f"the container {how}",
            fix="The image must have a python3 of version 3.8 or later that runs as any user.",
        )

    def _data(self) -> list[Bind]:
        own = self._settings.data_path
        folders = [*([own] if own is not None else []), *self._settings.data_folders]
        return [Bind(source=folder, target=str(folder)) for folder in folders]

    async def _look(self, image: str) -> Contents:
        """What the image has, and whether the owner's data can be read there."""
        data = [bind.source for bind in self._data()]
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            hand_over(folder, self.user)
            place = ContainerPlace(self, [], folder)
            await place.run_command(
                "look at the image",
                question(folder, folder, data),
                folder=Path("/"),
                environment={},
                limits=Limits(timeout_s=_LOOK_S),
            )
            contents = read_answer(folder, image)
        if contents.unreadable:
            raise TaskFailed(
                "data_not_readable",
                f"isolated packages, which run as user {self.user[0]}, could not read {', '.join(contents.unreadable)}",
                fix="Let that user read it, or run the client as the user whose data they are.",
            )
        return contents


class ContainerPlace:
    """See `fedn.client.isolation.places.Place`.

    Args:
        isolation: that it is of.
        binds: what a package brings.
        work_dir: where its code may write from task to task.
    """

    def __init__(self, isolation: ContainerIsolation, binds: Sequence[Bind], work_dir: Path) -> None:
        self._isolation = isolation
        self._binds = [*binds, Bind(source=work_dir, target=str(work_dir), writable=True)]

    @property
    def address_space_bytes(self) -> None:
        return None

    async def start_worker(self, folder: Path | None, output_bytes: int) -> "ContainerWorker":
        output = Output(CODE_LOG, output_bytes)
        container, channel = await self._isolation.run(
            _WORKER,
            folder=folder or Path("/"),
            environment=LARGE_BUFFERS,
            binds=self._binds,
            output=output,
            with_channel=True,
        )
        assert channel is not None
        return ContainerWorker(container, channel, self._isolation)

    async def run_command(
        self,
        what: str,
        argv: list[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        limits: Limits,
        task_folder: Path | None = None,
    ) -> None:
        own = [Bind(source=task_folder, target=str(task_folder), writable=True)] if task_folder is not None else []
        output = Output(CODE_LOG, limits.output_bytes)
        container, _ = await self._isolation.run(
            argv, folder=folder, environment=environment, binds=[*self._binds, *own], output=output
        )
        try:
            async with asyncio.timeout(limits.timeout_s):
                report = await container.report()
        except TimeoutError as error:
            raise timed_out(what, limits.timeout_s) from error
        finally:
            await container.end()
        failure = self._failure(what, report, output.tail)
        if failure is not None:
            raise failure

    def hand_over(self, folder: Path) -> None:
        hand_over(folder, self._isolation.user)

    def explained(self, error: TaskFailed) -> TaskFailed:
        return explained(error, self._isolation.pids)

    def _failure(self, what: str, report: Report, tail: str) -> TaskFailed | None:
        if report.status == 0:
            return None
        if report.out_of_memory:
            return TaskFailed(
                "out_of_memory",
                f"the {what} step {too_much(self._isolation.memory_bytes)}",
                fix="Give it less to hold at once, or raise memory_bytes of the client.",
            )
        if report.status is None:
            return TaskFailed("step_failed", f"the container of the {what} step was ended from outside")
        return self.explained(step_failed(what, report.status, tail))


class ContainerWorker:
    """See `fedn.client.isolation.places.WorkerProcess`."""

    def __init__(self, container: Container, channel: AgentEnd, isolation: ContainerIsolation) -> None:
        self._container = container
        self._isolation = isolation
        self.channel = channel
        self.output = container.output

    async def lend(self, call: TaskCall) -> TaskCall:
        exchange = self._container.exchange
        if isinstance(call.model, HeldFile):
            call = replace(call, model=await asyncio.to_thread(exchange.lend_model, call.model))
        if call.feedback_folder is not None:
            try:
                copy_outcome(call.feedback_folder, self._isolation.feedback)
            except OSError as error:
                raise TaskFailed("feedback_failed", f"what updates leave out cannot be kept: {error}") from error
            call = replace(call, feedback_folder=Path(FEEDBACK))
        return replace(call, result=exchange.result_slot() if call.result is not None else None)

    async def take_back(self, call: TaskCall, size_bytes: int) -> None:
        if call.result is not None:
            await asyncio.to_thread(self._container.exchange.take_result, size_bytes, call.result)

    def kill(self) -> None:
        self._container.kill()

    async def end(self) -> Ending:
        report = await self._container.end(wait_for_report=self.channel.is_lost)
        await self.channel.close()
        if report.out_of_memory:
            return Ending("out_of_memory", too_much(self._isolation.memory_bytes))
        if report.status is None:
            return Ending("worker_died", "was ended with its container")
        return Ending("worker_died", ending(report.status))


def too_much(memory_bytes: int) -> str:
    return f"took more than the {memory_bytes >> 20} MiB of memory that it may have, and was killed"
