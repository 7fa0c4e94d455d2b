"""The tasks of a client: queued, done one at a time, their results spooled and offered until they are acknowledged.

Outlives the streams: a task goes on while the combiner is away, and is answered from the spool when it is asked again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from fedn.aggregation.scaling.base import check_required
from fedn.client.calls import Runtime, TaskCall, TaskOutcome
from fedn.client.downloads import Downloads, Post
from fedn.client.encryption import TaskEncryption
from fedn.client.feedback import FeedbackFolder
from fedn.client.objects import Held, ObjectCache
from fedn.client.slots import HeldFile, Slot
from fedn.client.spool import Spool, SpooledResult
from fedn.models.digest import ALGORITHM, algorithm_of
from fedn.network.convert import reason_to_wire, round_to_wire
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import common_pb2 as common
from fedn.plan.logs import FieldLogger, bind
from fedn.protocol.errors import FednError, TaskFailed
from fedn.protocol.tasks import RoundName, Section, TaskKind, TaskSpec, UpdateMetadata

_LOG = logging.getLogger(__name__)
_PROGRESS_EVERY_S = 1.0
_TOLD_EVERY_S = 1.0
_ACCEPTED_AFTER_S = 0.1
"""A task that is done sooner is not said to be accepted: its result says so."""

Offer = Callable[[SpooledResult, int], None]
"""Says that a result waits; its upload may begin at once if it has at most so many bytes."""


@dataclass(eq=False)
class _Job:
    task: TaskSpec
    round: RoundName
    combiner: str
    credit_bytes: int
    """A result of at most so many bytes may be sent without being asked for."""
    cancelled: bool = False
    accepted: bool = False
    loading: asyncio.Task[Held] | None = None
    """The download of its model, which is given up with the job."""
    reported_at: float = field(default=-_PROGRESS_EVERY_S)
    model_bytes: int = 0
    """Size of the model as it came."""


class Tasks:
    """See the module.

    Args:
        client: this client's name.
        runtime_for: gives the runtime that does a task, ready; TaskFailed where there is none.
        post, offer: send a control message, say that a result waits, if a stream is open.
        encryption: takes encryption off models, and puts it on results.
        timeout_s: seconds > 0 a task may take.
        validator: whether this client validates models, also as part of a train task.
        feedback_folder: where what updates leave out is kept; None: nowhere, and codecs do without.
    """

    def __init__(
        self,
        client: str,
        *,
        spool: Spool,
        cache: ObjectCache,
        downloads: Downloads,
        runtime_for: Callable[[TaskSpec], Awaitable[Runtime]],
        post: Post,
        offer: Offer,
        encryption: TaskEncryption,
        timeout_s: float,
        validator: bool = True,
        feedback_folder: Path | None = None,
    ) -> None:
        self._client = client
        self._spool = spool
        self._cache = cache
        self._downloads = downloads
        self._runtime_for = runtime_for
        self._post = post
        self._offer = offer
        self._encryption = encryption
        self._timeout_s = timeout_s
        self._validator = validator
        self._feedback_folder = feedback_folder
        self._queue: deque[_Job] = deque()
        self._current: _Job | None = None
        self._runtime: Runtime | None = None
        self._wake = asyncio.Event()
        self._stale: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._told_at = -_TOLD_EVERY_S
        self._untold = 0
        """Tasks that were done since, of which no line was written."""

    def submit(self, task: TaskSpec, round_name: RoundName, combiner: str, credit_bytes: int = 0) -> None:
        """A task is asked for: new, or again. `credit_bytes` holds until `stream_ended`."""
        for task_id in self._stale - {task.task_id}:
            self._spool.remove(task_id)
        self._stale.clear()
        result = self._spool.get(task.task_id)
        if result is not None and _answers(result.metadata, task):
            self._offer(result.for_round(round_name), credit_bytes)
            return
        job = self._find(task.task_id)
        if job is not None:
            job.round, job.combiner, job.credit_bytes = round_name, combiner, credit_bytes
            if wanted := _object_of(task):
                self._downloads.ask(wanted, common.OBJECT_KIND_MODEL)
            self._accept(job)
            return
        self._supersede(combiner)
        # A model that arrives for a task after this one must not take the place of this one's.
        self._cache.pin(_object_of(task))
        self._queue.append(_Job(task, round_name, combiner, credit_bytes))
        self._wake.set()

    def cancel(self, task_id: str, reason: str, *, known: bool = True) -> None:
        """The task's result is not wanted any more, at least not by this attempt.

        Args:
            known: whether the combiner knows the task, and so that the result did not count.
        """
        self._stale.add(task_id)
        if known:
            self._note_outcome(task_id, counted=False)
        job = self._find(task_id)
        if job is not None:
            self._log(job).info("task %s was cancelled: %s", task_id, reason)
            self._cancel(job)

    def settled(self, task_id: str, *, acknowledged: bool) -> None:
        """The combiner has the result, or wants it never again."""
        self._note_outcome(task_id, counted=acknowledged)
        self._spool.remove(task_id)

    def _note_outcome(self, task_id: str, *, counted: bool) -> None:
        """Tells what updates leave out whether this one is in: see fedn.client.feedback."""
        result = self._spool.get(task_id)
        if self._feedback_folder is not None and result is not None and result.metadata.update_chain:
            FeedbackFolder(self._feedback_folder).note_outcome(task_id, counted=counted)

    def stream_ended(self) -> None:
        """What a combiner granted on the stream is void."""
        for job in [self._current, *self._queue]:
            if job is not None:
                job.credit_bytes = 0

    async def run(self) -> None:
        """Does task after task, until it is cancelled."""
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            job = self._current = self._queue.popleft()
            try:
                await self._do(job)
            finally:
                self._current = None
                self._cache.unpin(_object_of(job.task))

    async def _do(self, job: _Job) -> None:
        task = job.task
        accepting = asyncio.get_running_loop().call_later(_ACCEPTED_AFTER_S, self._accept, job)
        _LOG.debug("%s task %s begins", task.kind, task.task_id)
        try:
            result = await self._result(job)
        except FednError as error:
            if not job.cancelled:
                self._fail(job, error)
        else:
            self._offer(result, job.credit_bytes)
            self._tell_done(job, result.metadata.task_ms)
        finally:
            accepting.cancel()

    async def _result(self, job: _Job) -> SpooledResult:
        started = time.perf_counter()
        task = job.task
        runtime = await self._runtime_for(task)
        model = await self._model(job)
        if job.cancelled:
            raise _cancelled()
        job.model_bytes = _size_of(model)
        slot = None if task.kind is TaskKind.VALIDATE else self._spool.work(job.model_bytes)
        slots = set() if slot is None else {slot}
        call = TaskCall(
            task_id=task.task_id,
            kind=task.kind,
            session=job.round.session,
            round=job.round.index,
            client=self._client,
            parameters=task.parameters,
            step_budget=task.step_budget,
            validate_incoming=task.validate_incoming and self._validator,
            helper=task.helper,
            algorithm=algorithm_of(task.model_id) if task.model_id else ALGORITHM,
            model=model,
            model_id=task.model_id,
            model_chain=task.model_chain if task.encoded_model_id else (),
            update_chain=task.update_chain,
            extras=task.extras,
            last_counted=task.last_counted,
            feedback_folder=self._feedback_folder,
            result=slot,
            timeout_s=self._timeout_s,
        )
        try:
            with await self._encryption.prepared(call, task.encryption) as prepared:
                if job.cancelled:
                    raise _cancelled()
                self._runtime = runtime
                outcome = await runtime.run(
                    prepared.call, lambda fraction, metrics: self._progress(job, fraction, metrics)
                )
                self._runtime = None
                outcome = await prepared.encrypted(outcome, lambda made: _metadata(job, self._client, made, 0.0))
            made = outcome.tensors if isinstance(outcome.tensors, Slot) else None
            if made is not None:
                slots.add(made)
            if job.cancelled:
                raise _cancelled()
            metadata = _metadata(job, self._client, outcome, (time.perf_counter() - started) * 1000)
            check_required(metadata, task.required_metadata.items())
            if made is not None:
                slots.remove(made)  # the spool has it
            return self._spool.put(metadata, outcome.object_id, outcome.tensors, outcome.size_bytes)
        finally:
            self._runtime = None
            for left in slots:
                self._spool.discard(left)

    async def _model(self, job: _Job) -> Held | None:
        task = job.task
        if not task.model_id:
            if task.kind is TaskKind.INIT:
                return None
            raise TaskFailed("bad_task", f"a {task.kind} task came without a model")
        wanted = _object_of(task)
        held = self._cache.get(wanted)
        if held is not None:
            return held
        job.loading = asyncio.create_task(self._downloads.get(wanted, common.OBJECT_KIND_MODEL))
        try:
            return await job.loading
        except asyncio.CancelledError:
            job.loading.cancel()
            if job.cancelled:
                raise _cancelled() from None
            raise
        finally:
            job.loading = None

    def _accept(self, job: _Job) -> None:
        if job is self._current and not job.cancelled:
            job.accepted = True
            self._post(wire.ClientFrame(task_accepted=wire.TaskAccepted(task_id=job.task.task_id)))

    def _progress(self, job: _Job, fraction: float, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        if now - job.reported_at < _PROGRESS_EVERY_S:
            return
        job.reported_at = now
        if not job.accepted:
            self._accept(job)
        self._post(
            wire.ClientFrame(
                task_progress=wire.TaskProgress(task_id=job.task.task_id, fraction=fraction, metrics=metrics)
            )
        )

    def _fail(self, job: _Job, error: FednError) -> None:
        self._log(job).error("%s task %s failed: %s", job.task.kind, job.task.task_id, error)
        self._post(
            wire.ClientFrame(
                task_failed=wire.TaskFailed(
                    task_id=job.task.task_id, round=round_to_wire(job.round), problem=reason_to_wire(error)
                )
            )
        )

    def _tell_done(self, job: _Job, task_ms: float) -> None:
        """Into the log; of tasks that follow each other quickly one a second, for a line costs as much as a message."""
        now = time.monotonic()
        if now - self._told_at < _TOLD_EVERY_S:
            self._untold += 1
            return
        more = f", {self._untold} others before it" if self._untold else ""
        self._log(job).info("%s task %s is done in %.0f ms%s", job.task.kind, job.task.task_id, task_ms, more)
        self._told_at, self._untold = now, 0

    def _log(self, job: _Job) -> FieldLogger:
        return bind(__name__, session=job.round.session, round=job.round.index, client=self._client)

    def _find(self, task_id: str) -> _Job | None:
        jobs = [self._current, *self._queue] if self._current else [*self._queue]
        return next((job for job in jobs if job.task.task_id == task_id and not job.cancelled), None)

    def _supersede(self, combiner: str) -> None:
        """A new task comes from another combiner than a job's: nobody waits for that job any more."""
        for job in [self._current, *self._queue]:
            if job is not None and job.combiner != combiner and not job.cancelled:
                self._log(job).info("task %s of the combiner %s is given up", job.task.task_id, job.combiner)
                self._cancel(job)

    def _cancel(self, job: _Job) -> None:
        job.cancelled = True
        if job in self._queue:
            self._queue.remove(job)
            self._cache.unpin(_object_of(job.task))
        elif job.loading is not None:
            job.loading.cancel()
        elif self._runtime is not None:
            ending = asyncio.create_task(self._runtime.cancel(job.task.task_id))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


def _object_of(task: TaskSpec) -> str:
    """Digest of what brings the task's model: itself, or what a chain of codecs made of it."""
    return task.encoded_model_id or task.brings_model


def _answers(metadata: UpdateMetadata, task: TaskSpec) -> bool:
    """Whether a result that waits is one that the task may be answered with."""
    extras = [section.name for section in task.extras if task.kind is TaskKind.TRAIN]
    return (
        metadata.base_model_id == task.model_id
        and metadata.update_chain in ((), task.update_chain)
        and [section.name for section in metadata.extras] == extras
    )


def _metadata(job: _Job, client: str, outcome: TaskOutcome, task_ms: float) -> UpdateMetadata:
    """TaskFailed (`bad_result`) where a value is out of its range."""
    try:
        return UpdateMetadata(
            task_id=job.task.task_id,
            client=client,
            round=job.round,
            base_model_id=job.task.model_id,
            form=outcome.form,
            num_examples=outcome.num_examples,
            num_steps=outcome.num_steps,
            ms_per_step=outcome.ms_per_step,
            ms_per_epoch=outcome.ms_per_epoch,
            task_ms=task_ms,
            train_ms=outcome.train_ms,
            validate_ms=outcome.validate_ms,
            metrics=outcome.metrics,
            validation=outcome.validation,
            num_validation_examples=outcome.num_validation_examples,
            update_chain=job.task.update_chain if outcome.coded else (),
            decoded_bytes=outcome.decoded_bytes,
            model_chain=job.task.model_chain if job.task.encoded_model_id else (),
            model_bytes=job.model_bytes,
            key_id=outcome.key_id,
            cpu_ms=outcome.cpu_ms,
            memory_bytes=outcome.memory_bytes,
            extras=tuple(Section.model_validate(section) for section in outcome.extras),
        )
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise TaskFailed("bad_result", f"the step's result is not valid: {faults}") from error


def _size_of(model: Held | None) -> int:
    if model is None:
        return 0
    return model.size_bytes if isinstance(model, HeldFile) else len(model)


def _cancelled() -> TaskFailed:
    return TaskFailed("task_cancelled", "the task was cancelled")
