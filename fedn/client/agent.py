"""The client's agent: enrols, is assigned to a combiner, attaches, does tasks, and comes back whatever breaks.

It never imports the site's own code; see `fedn.client.runtimes`.
"""

import asyncio
import json
import logging
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedn.api.trust import wait_for_authority
from fedn.client.attachment import Attachment, Introduction, SaidBye
from fedn.client.condition import ConditionFile
from fedn.client.downloads import Downloads
from fedn.client.encryption import TaskEncryption
from fedn.client.heads import TrailMemory
from fedn.client.objects import ObjectCache
from fedn.client.runtimes import Runtimes
from fedn.client.site import Site
from fedn.client.spool import Spool, SpooledResult
from fedn.client.stream import CombinerStream
from fedn.client.tasks import Tasks
from fedn.network.backoff import Backoff, jittered
from fedn.network.generated import client_pb2 as wire
from fedn.network.identity import Identity
from fedn.network.join import join_of
from fedn.network.tokens import Role
from fedn.plan.chains import known_codecs
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import FednError, Forbidden, Unauthenticated, Unavailable
from fedn.protocol.rest import Assignment

_LOG = logging.getLogger(__name__)
_MIN_WAIT_S = 0.1
_MAX_WAIT_S = 30.0
_STABLE_AFTER_S = 5.0
"""An attachment that lasted so long was a good one: back-off begins anew."""


class ClientAgent:
    """One client. `run` once; `stop` from the loop's thread.

    Args:
        settings: of this client; nothing is opened before `run`.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings.anchored()
        self._stopping = asyncio.Event()
        self._attached = asyncio.Event()
        self._stream: CombinerStream | None = None
        self._attachment: Attachment | None = None
        self._backoff = Backoff()
        self._last: Assignment | None = None
        self._told = ""

    def stop(self) -> None:
        """Ends `run`, soon: the combiner is told, a running task is given up, results stay in the spool."""
        self._stopping.set()

    async def wait_attached(self) -> None:
        """Until a combiner serves this client."""
        await self._attached.wait()

    async def run(self) -> None:
        """Until `stop`, or until the client cannot go on: then the FednError that says why."""
        folder = self._settings.data_dir
        with ExitStack() as stack:
            self._identity = stack.enter_context(Identity(folder, self._settings.name, Role.CLIENT))
            self._condition = ConditionFile(folder)
            stack.callback(self._condition.close)
            self._condition.away("not enrolled yet")
            beat = asyncio.create_task(self._condition.beat())
            stack.callback(beat.cancel)
            if not await self._authority_came():
                return
            self._open(folder)
            stack.callback(self._cache.close)
            stack.callback(self._spool.close)
            stack.callback(self._site.close)
            work: list[asyncio.Task[Any]] = [
                asyncio.create_task(self._serve()),
                asyncio.create_task(self._tasks.run()),
            ]
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({*work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._close([*work, stopping])
            for task in work:
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def _authority_came(self) -> bool:
        """Waits for the authority's certificate, where that is still to come; False: `stop` was first."""
        waits = [
            asyncio.create_task(wait_for_authority(self._settings)),
            asyncio.create_task(self._stopping.wait()),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        came = waits[0].done()
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return came

    def _open(self, folder: Path) -> None:
        settings = self._settings
        self._site = Site(self._identity, join_of(settings))
        self._trail = TrailMemory(folder / "trail_head.json")
        self._cache = ObjectCache(folder / "objects")
        self._spool = Spool(folder / "spool")
        self._downloads = Downloads(self._cache, self._post)
        self._runtimes = Runtimes(settings, folder, self._downloads.get)
        self._tasks = Tasks(
            settings.name,
            spool=self._spool,
            cache=self._cache,
            downloads=self._downloads,
            runtime_for=self._runtimes.for_task,
            post=self._post,
            offer=self._offer,
            encryption=TaskEncryption(self._spool, settings.encryption_key),
            timeout_s=settings.task_timeout_s,
            validator=settings.validator,
            feedback_folder=folder / "feedback",
        )
        self._instance = uuid.uuid4().hex

    async def _close(self, running: list[asyncio.Task[Any]]) -> None:
        if self._stream is not None:
            await self._stream.finish(wire.ClientFrame(leave=wire.Leave(reason="the client was stopped")))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._runtimes.close()

    def _post(self, frame: wire.ClientFrame) -> None:
        if self._stream is not None:
            self._stream.post(frame)

    def _offer(self, result: SpooledResult, credit_bytes: int) -> None:
        if self._attachment is not None:
            self._attachment.offer(result, credit_bytes)

    async def _serve(self) -> None:
        await asyncio.gather(self._enrol(), self._runtimes.start())
        assignment: Assignment | None = None
        avoid: tuple[str, ...] = ()
        while True:
            if assignment is None:
                assignment = await self._assigned(avoid)
            ended = await self._attach(assignment)
            assignment, avoid = await self._after(assignment, ended)

    async def _enrol(self) -> None:
        while True:
            try:
                return await self._site.enrol()
            except Unavailable as error:
                self._waits(f"not enrolled yet: {error}")
                await asyncio.sleep(self._backoff.next_s())

    async def _assigned(self, avoid: tuple[str, ...]) -> Assignment:
        """Asks until there is a combiner for us. Without a reducer, the last one is tried again."""
        while True:
            try:
                assignment = await self._site.assign(self._settings.combiner or "", avoid)
            except Unavailable as error:
                self._waits(f"no assignment yet: {error}")
                await asyncio.sleep(self._backoff.next_s())
                if self._last is not None:
                    return self._last
                continue
            self._trail.check(assignment.trail_head, assignment.trail_length)
            if assignment.status == "assigned":
                self._last = assignment
                return assignment
            self._waits(f"no assignment yet: {assignment.reason} [{assignment.code}]")
            await asyncio.sleep(jittered(min(max(assignment.retry_after_s, _MIN_WAIT_S), _MAX_WAIT_S)))

    async def _attach(self, assignment: Assignment) -> "_Ended":
        """One attachment, from its beginning to its end."""
        loop = asyncio.get_running_loop()
        await self._prepare(assignment.package_id)
        stream = CombinerStream(self._site.endpoint(assignment), progress_s=self._settings.progress_s)
        attachment = Attachment(
            stream,
            self._introduction(),
            tasks=self._tasks,
            downloads=self._downloads,
            cache=self._cache,
            spool=self._spool,
        )
        self._stream, self._attachment = stream, attachment
        attached_at: float | None = None
        helpers: list[asyncio.Task[None]] = []
        try:
            await attachment.greet()
            attached_at = loop.time()
            self._tell(f"attached to the combiner {assignment.combiner}")
            self._condition.attached(assignment.combiner)
            self._attached.set()
            helpers.append(asyncio.create_task(self._keep_token(stream, assignment.expires_at)))
            await attachment.serve()
        except FednError as error:
            lasted_s = None if attached_at is None else loop.time() - attached_at
            # Its frames hold the stream, and with it the connection, for as long as the error is kept.
            return _Ended(error.without_frames(), lasted_s)
        finally:
            self._attached.clear()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            self._stream = self._attachment = None
            await stream.close()
        raise AssertionError("an attachment ends with an error")

    async def _prepare(self, package_id: str) -> None:
        """Gets the compute package ready before attaching, so that the first task is quick and `kinds` are true.

        Where that fails, the first task fails too, and the federation is told why.
        """
        try:
            if self._runtimes.needs(package_id) and self._cache.get(package_id) is None:
                with TemporaryDirectory(prefix="download-", dir=self._settings.data_dir) as folder:
                    path = Path(folder) / "package.tar.gz"
                    await self._site.download_package(package_id, path)
                    self._cache.adopt(package_id, path)
            await self._runtimes.prepare(package_id)
        except FednError as error:
            self._tell(f"the compute package {package_id} is not ready: {error}")

    async def _after(self, assignment: Assignment, ended: "_Ended") -> tuple[Assignment | None, tuple[str, ...]]:
        """What to do after an attachment: the assignment to use again, if any, and the combiners to avoid."""
        error, combiner = ended.error, assignment.combiner
        self._condition.away(str(error))
        if isinstance(error, Forbidden) or (isinstance(error, SaidBye) and error.final):
            raise error
        self._tell(str(error))
        if ended.lasted_s is not None and ended.lasted_s >= _STABLE_AFTER_S:
            self._backoff.reset()
        if isinstance(error, SaidBye):
            await asyncio.sleep(max(jittered(min(error.retry_after_s, _MAX_WAIT_S)), self._backoff.next_s()))
            return None, () if error.code == "token_expired" else (combiner,)
        await asyncio.sleep(self._backoff.next_s())
        if ended.lasted_s is not None:
            return assignment, ()  # most cuts are short: the same combiner once more
        return None, () if isinstance(error, Unauthenticated) else (combiner,)

    async def _keep_token(self, stream: CombinerStream, expires_at: float) -> None:
        """Renews the token on the open stream, each time when two thirds of its life are over."""
        backoff = Backoff(1.0, 30.0)
        while True:
            await asyncio.sleep(max((expires_at - time.time()) * 2 / 3, _MIN_WAIT_S))
            try:
                token, expires_at = await self._site.renew_token()
            except FednError as error:
                _LOG.warning("the token was not renewed: %s", error)
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            stream.post(wire.ClientFrame(token=wire.TokenRenewal(token=token)))
            if self._last is not None:
                self._last = self._last.model_copy(update={"token": token, "expires_at": expires_at})

    def _introduction(self) -> Introduction:
        return Introduction(
            client=self._settings.name,
            instance=self._instance,
            kinds=self._runtimes.kinds,
            attributes={
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in self._settings.attributes.items()
            },
            codecs=known_codecs(),
        )

    def _waits(self, text: str) -> None:
        self._condition.away(text)
        self._tell(text)

    def _tell(self, text: str) -> None:
        """Into the log, but the same thing only once in a row."""
        if text != self._told:
            self._told = text
            _LOG.info("%s", text)


@dataclass(frozen=True)
class _Ended:
    """How an attachment ended."""

    error: FednError
    lasted_s: float | None
    """Seconds since the combiner's welcome; None where it did not come to that."""
