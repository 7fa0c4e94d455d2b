"""What becomes of a light client's tasks: the model comes, time passes, a result is announced, sent and acknowledged.

A result is never stored: it follows from the model, the client and the task, and is made again when it is asked for.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from fedn.models.digest import algorithm_of
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.protocol.errors import IntegrityError, LimitExceeded
from fedn.swarm.behaviour import Deed, Draw, draw, is_slow
from fedn.swarm.models import Receipt, SharedModel
from fedn.swarm.shared import Shared
from fedn.swarm.updates import GeneratedUpdate, Sending

_HELD = 3
"""Objects that a client remembers to have received, the newest."""
_INLINE_BYTES = 4 << 20
"""Larger updates are hashed in a thread."""
_SLOW_CHUNK_BYTES = 64 << 10
_TRIES = 3
_ACCEPT_AFTER_S = 0.1
"""A task that is done sooner needs no TaskAccepted."""


class Wire(Protocol):
    """The client's stream, while there is one; what is said without one is lost."""

    def post(self, frame: wire.ClientFrame) -> None:
        """Sends a control message."""

    def upload(self, sending: Sending) -> None:
        """Sends an update."""

    @property
    def uploading(self) -> bool:
        """Whether an update is on its way."""

    @property
    def chunk_bytes(self) -> int:
        """Size of the pieces that the combiner asks for."""

    def go_away(self, reason: str) -> None:
        """Ends the stream for a while, on purpose: with a word, or without one where `reason` is empty."""


@dataclass(eq=False)
class _Job:
    """One task of a client."""

    task: common.Task
    draw: Draw
    asked_at: float
    update: GeneratedUpdate | None = None
    ready: wire.Ready | None = None
    """Announced so; None while it is not done."""
    ready_at: float = 0.0
    granted_at: float = 0.0
    work: asyncio.Task[None] | None = None
    accepting: asyncio.TimerHandle | None = None


@dataclass(eq=False)
class _Wanted:
    """An object that a job waits for."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    tries: int = 0
    failed: bool = False


class LightTasks:
    """The tasks of one client, and what it receives. Outlives the streams.

    Args:
        number: of the client, which gives its updates their constant.
        stream: of the client.
    """

    def __init__(self, number: int, client: str, shared: Shared, stream: Wire) -> None:
        behaviour = shared.options.behaviour
        self._client = client
        self._constant = behaviour.step * number
        self._slow_bytes_per_s = behaviour.slow_bytes_per_s if is_slow(behaviour, client) else 0.0
        self._shared = shared
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._combiner = ""
        self._held: list[str] = []
        self._receipt: Receipt | None = None
        self._arriving = False
        """Whether pieces on this stream belong to `_receipt`; those of an object that is not wanted are passed over."""
        self._wanted: dict[str, _Wanted] = {}
        self._jobs: dict[str, _Job] = {}
        self._gone_for = ""
        """The last task at which the client went away: it does so once."""

    # What a Hello says

    def held(self) -> list[str]:
        """Objects that this client may say it holds."""
        models = self._shared.models
        if self._shared.options.receive == "shared":
            return list(models.ids)
        return [object_id for object_id in self._held if object_id in models]

    def partial(self) -> list[common.ObjectFetch]:
        receipt = self._receipt
        if receipt is None or not receipt.received:
            return []
        kind = common.OBJECT_KIND_MODEL
        return [common.ObjectFetch(object_id=receipt.object_id, offset=receipt.received, kind=kind)]

    def spooled(self) -> list[str]:
        """Tasks whose result waits to be sent."""
        return [task_id for task_id, job in self._jobs.items() if job.ready is not None]

    # The stream

    def attached(self, combiner: str) -> None:
        self._combiner = combiner
        for object_id, wanted in self._wanted.items():
            if self._receipt is None or self._receipt.object_id != object_id:
                wanted.tries = 0

    def detached(self) -> None:
        self._arriving = False

    def close(self) -> None:
        """Gives everything up."""
        if self._receipt is not None:
            self._receipt.drop()
            self._receipt = None
        for task_id in list(self._jobs):
            self._forget(task_id)

    # Objects

    def begin(self, message: common.ObjectBegin) -> None:
        """The pieces of an object follow. InvalidInput where the combiner is out of step."""
        receipt = self._receipt
        if receipt is not None and receipt.object_id == message.object_id and receipt.received == message.offset:
            self._arriving = True
            return
        if receipt is not None:
            receipt.drop()
        self._receipt, self._arriving = None, False
        if message.offset or not message.size_bytes:
            return  # the rest of something that we no longer have the beginning of: asked for again where it is needed
        keeper = None
        if message.kind == common.OBJECT_KIND_MODEL:
            try:
                keeper = self._shared.models.keep(message.object_id, message.size_bytes)
            except LimitExceeded as error:
                self._shared.statistics.count_break(error.code)
        self._receipt, self._arriving = Receipt(message.object_id, message.size_bytes, keeper), True

    def piece(self, offset: int, data: memoryview) -> None:
        """InvalidInput where the combiner is out of step."""
        statistics = self._shared.statistics
        statistics.received_bytes += len(data)
        receipt = self._receipt
        if receipt is None or not self._arriving:
            return
        try:
            whole = receipt.take(offset, data)
        except IntegrityError:
            statistics.damaged += 1
            self._receipt = None
            self._fetch(receipt.object_id)
            return
        if whole:
            statistics.models += 1
            self._receipt = None
            self._held = [*self._held[1 - _HELD :], receipt.object_id]
            wanted = self._wanted.pop(receipt.object_id, None)
            if wanted is not None:
                wanted.arrived.set()

    def missing(self, object_id: str) -> None:
        """The combiner has it not."""
        wanted = self._wanted.pop(object_id, None)
        if wanted is not None:
            wanted.failed = True
            wanted.arrived.set()

    def _fetch(self, object_id: str) -> None:
        wanted = self._wanted.setdefault(object_id, _Wanted())
        wanted.tries += 1
        if wanted.tries > _TRIES:
            self.missing(object_id)
            return
        fetch = common.ObjectFetch(object_id=object_id, offset=0, kind=common.OBJECT_KIND_MODEL)
        self._stream.post(wire.ClientFrame(fetch=fetch))

    async def _model(self, object_id: str) -> SharedModel | None:
        """The model, once this client has received it and the process has its bytes; None where it is not to be had."""
        models, each = self._shared.models, self._shared.options.receive == "each"
        while True:
            if not each or object_id in self._held:
                model = models.get(object_id) or await models.wait(object_id)
                if model is not None:
                    return model
            wanted = self._wanted.get(object_id)
            if wanted is None:
                wanted = self._wanted[object_id] = _Wanted()
                if self._receipt is None or self._receipt.object_id != object_id:
                    self._fetch(object_id)
            await wanted.arrived.wait()
            if wanted.failed:
                return None

    # Tasks

    def asked(self, task: common.Task) -> None:
        """A task is asked for: new, or again."""
        job = self._jobs.get(task.task_id)
        if job is not None and job.task.model_id == task.model_id:
            job.task = task
            if job.ready is not None:
                job.ready.metadata.round.CopyFrom(task.round)
                self._announce(job)
            elif job.work is not None:
                self._accept(job)
            else:
                self._begin(job)
            return
        for task_id in list(self._jobs):
            self._forget(task_id)  # of an earlier round, or of a combiner that this client left
        self._shared.statistics.tasks += 1
        job = _Job(task, draw(self._shared.options.behaviour, self._client, task.task_id), self._loop.time())
        self._jobs[task.task_id] = job
        self._begin(job)

    def _begin(self, job: _Job) -> None:
        job.work = asyncio.create_task(self._work(job))

    def _accept(self, job: _Job) -> None:
        self._stream.post(wire.ClientFrame(task_accepted=wire.TaskAccepted(task_id=job.task.task_id)))

    async def _work(self, job: _Job) -> None:
        task_id, deed = job.task.task_id, job.draw.deed
        if deed in {Deed.LEAVE, Deed.VANISH} and self._gone_for != task_id:
            self._gone_for, job.work = task_id, None
            self._stream.go_away("the client has other things to do" if deed is Deed.LEAVE else "")
            return
        job.accepting = self._loop.call_later(_ACCEPT_AFTER_S, self._accept, job)
        model = await self._model(job.task.model_id)
        if job.draw.think_s:
            await asyncio.sleep(job.draw.think_s)
        if model is None:
            self._fail(job, "object_missing", "the model of the task is not to be had")
        elif deed is Deed.FAIL:
            self._fail(job, "task_failed", "the swarm was told to let this task fail")
        else:
            job.ready = await self._result(job, model)
            self._announce(job)
        self._rest(job)

    async def _result(self, job: _Job, model: SharedModel) -> wire.Ready:
        task = job.task
        metadata = common.UpdateMetadata(
            task_id=task.task_id,
            client=self._client,
            base_model_id=task.model_id,
            form="model",
            num_examples=self._shared.options.behaviour.num_examples,
            num_steps=1,
            task_ms=(self._loop.time() - job.asked_at) * 1000,
            metrics={"constant": self._constant},
        )
        if task.kind == common.TASK_KIND_VALIDATE or task.validate_incoming:
            metadata.validation["constant"] = self._constant
            metadata.num_validation_examples = metadata.num_examples
        if task.kind == common.TASK_KIND_VALIDATE:
            metadata.round.CopyFrom(task.round)
            return wire.Ready(metadata=metadata)
        update, algorithm = GeneratedUpdate(model, self._constant), algorithm_of(task.model_id)
        if update.size_bytes <= _INLINE_BYTES:
            object_id = update.digest(algorithm)
        else:
            object_id = await asyncio.to_thread(update.digest, algorithm)
        job.update = update
        metadata.round.CopyFrom(job.task.round)  # it may have been asked again, by a later attempt
        return wire.Ready(metadata=metadata, object_id=object_id, size_bytes=update.size_bytes)

    def _announce(self, job: _Job) -> None:
        job.ready_at, job.granted_at = self._loop.time(), 0.0
        assert job.ready is not None
        # Pieces carry no name: only one result can be on its way on a stream.
        alone = not self._stream.uploading and all(other is job or other.ready is None for other in self._jobs.values())
        job.ready.follows = alone and 0 < job.ready.size_bytes <= job.task.upload_credit_bytes
        self._stream.post(wire.ClientFrame(ready=job.ready))
        if job.ready.follows:
            job.granted_at = job.ready_at
            self._send(job, 0, granted=False)

    def _fail(self, job: _Job, code: str, message: str) -> None:
        self._shared.statistics.failed += 1
        problem = common.Problem(code=code, message=message)
        failed = wire.TaskFailed(task_id=job.task.task_id, round=job.task.round, problem=problem)
        self._stream.post(wire.ClientFrame(task_failed=failed))
        self._jobs.pop(job.task.task_id, None)

    def granted(self, grant: wire.Grant) -> None:
        """The result may be sent, from an offset on. InvalidInput (`bad_frame`) where that lies outside of it."""
        job = self._jobs.get(grant.task_id)
        if job is None or job.update is None:
            return
        if not job.granted_at:
            job.granted_at = self._loop.time()
            self._shared.statistics.grant.add(job.granted_at - job.ready_at)
        self._send(job, grant.offset, granted=True)

    def _send(self, job: _Job, offset: int, *, granted: bool) -> None:
        task_id, update, cut_at = job.task.task_id, job.update, None
        assert update is not None
        if job.draw.deed is Deed.VANISH_UPLOADING and self._gone_for != task_id:
            self._gone_for = task_id
            cut_at = (offset + update.size_bytes) // 2
        slow, chunk_bytes = self._slow_bytes_per_s, self._stream.chunk_bytes
        sending = Sending(
            task_id,
            update,
            offset,
            chunk_bytes=min(chunk_bytes, _SLOW_CHUNK_BYTES) if slow else chunk_bytes,
            bytes_per_s=slow,
            cut_at=cut_at,
            granted=granted,
        )
        self._stream.upload(sending)

    def acknowledged(self, task_id: str) -> None:
        job = self._jobs.get(task_id)
        if job is None:
            return
        statistics, now = self._shared.statistics, self._loop.time()
        statistics.updated += 1
        statistics.task.add(now - job.asked_at)
        if job.granted_at:
            statistics.upload.add(now - job.granted_at)
        self._forget(task_id)

    def refused(self, task_id: str, code: str) -> None:
        refused = self._shared.statistics.refused
        refused[code] = refused.get(code, 0) + 1
        self._forget(task_id)

    def cancelled(self, task_id: str) -> None:
        if task_id in self._jobs:
            self._shared.statistics.cancelled += 1
            self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        job = self._jobs.pop(task_id, None)
        if job is not None:
            if job.work is not None:
                job.work.cancel()
            self._rest(job)

    def _rest(self, job: _Job) -> None:
        """Nothing of the job runs any more."""
        job.work = None
        if job.accepting is not None:
            job.accepting.cancel()
            job.accepting = None
