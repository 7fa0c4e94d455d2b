"""One round at one combiner: its tasks go out, their results come in, and their sum is kept for the reducer.

The round lives by itself: it needs no reducer while it runs, closes by its own deadline, and keeps its result until
it is released. It decides nothing that the reducer decides: who takes part, when to close early, whether it counts.
"""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto

from fedn.combiner.answers import Answers
from fedn.combiner.buffers import Storage
from fedn.combiner.clients import Peer
from fedn.combiner.dispatch import Dispatch
from fedn.combiner.events import EventLog
from fedn.combiner.intake import Intake
from fedn.combiner.jobs import Jobs
from fedn.combiner.results import Results, RoundServices
from fedn.combiner.tasks import OpenTask, away, late, reason_of
from fedn.combiner.totals import Arrived
from fedn.combiner.uploads import Phase, Upload
from fedn.models.wire import ModelSpec
from fedn.network.convert import reason_from_wire, round_to_wire
from fedn.network.frames import CHUNK_BYTES
from fedn.network.generated import client_pb2 as wire
from fedn.network.generated import combiner_pb2 as link
from fedn.network.generated import common_pb2 as common
from fedn.plan.logs import bind
from fedn.protocol.errors import FednError, InvalidInput
from fedn.protocol.rounds import LedgerState, Reason, RoundSpec
from fedn.protocol.tasks import TaskKind

_log = bind(__name__)


class Stage(Enum):
    RUNNING = auto()
    CLOSING = auto()
    """Only uploads that progress are still waited for."""
    SEALING = auto()
    DONE = auto()
    RELEASED = auto()


class Round:
    """See the module. Belongs to one loop; made by `Rounds`, then `start`.

    Raises:
        InvalidInput: the rule is unknown, or the tasks do not make a round.
    """

    def __init__(self, spec: RoundSpec, services: RoundServices) -> None:
        self.spec = spec
        self.name = spec.name
        self.events = EventLog(spec.name)
        self.stage = Stage.RUNNING
        self.tasks = {task.task_id: OpenTask(task) for task in spec.tasks}
        self._services = services
        self._results = Results(spec, services, self)
        named = {key for task in spec.tasks for key in (task.brings_model, task.package_id)}
        self._needs = {*named, spec.optimizer_state_id} - {""}
        self._dispatch = Dispatch(self, services)
        self._answers = Answers(services.clients)
        self._intake = Intake(spec.name, self._results, services.max_model_bytes)
        self._by_client: dict[str, list[OpenTask]] = {}
        for task in self.tasks.values():
            self._by_client.setdefault(task.spec.client, []).append(task)
        self._open = len(self.tasks)
        self._reason = "all in" if self.tasks else "empty"
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._deadline_at = self._started_at + spec.deadline_s
        self._timer: asyncio.TimerHandle | None = None
        self._jobs = Jobs(self.results_lost)

    # What the reducer asks for.

    def start(self) -> None:
        if self.tasks:
            self._set_out()
        else:
            self._finish()

    def _set_out(self) -> None:
        for object_id in self._needs:
            self._services.objects.pin(object_id, self.name)
        self._arm()
        self._begin(tuple(self.tasks.values()))

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._deadline_at, self._deadline)

    def _begin(self, tasks: Sequence[OpenTask]) -> None:
        """The tasks go out, as far as what they need is here."""
        for client in {task.spec.client for task in tasks}:
            if self._services.clients.get(client) is None:
                self._miss(client)
        if self._take_base():
            self._jobs.start(self._dispatch.send_all(tasks, self._needs))

    def status(self) -> link.RoundStatus:
        needed = [] if self.done else sorted(key for key in self._needs if key not in self._services.objects)
        return link.RoundStatus(
            round=round_to_wire(self.name),
            needed_objects=needed,
            last_event=self.events.last,
            done=self.done,
        )

    def close(self, reason: str) -> None:
        """What is in counts; nothing else is waited for."""
        if self.stage in {Stage.RUNNING, Stage.CLOSING}:
            self._reason = "closed"
            self._close(reason or "closed by the reducer", grace_s=0)

    def extend(self, deadline_s: float) -> None:
        """Moves the deadline to so many seconds from now, as long as it has not passed."""
        if self.stage is Stage.RUNNING and self._timer is not None:
            self._timer.cancel()
            self._deadline_at = self._loop.time() + deadline_s
            self._timer = self._loop.call_at(self._deadline_at, self._deadline)

    def cancel(self, reason: str) -> None:
        """Throws the work away; a result that is there already stays."""
        if self.stage in {Stage.RUNNING, Stage.CLOSING, Stage.SEALING}:
            self._abort("cancelled", reason or "cancelled by the reducer")

    def release(self) -> None:
        """Lets go of everything."""
        if not self.done:
            self._abort("cancelled", "the reducer gave this attempt up")
        self.stage = Stage.RELEASED
        self._results.close()
        self._results.let_go()
        self._services.objects.unpin(self.name)

    async def wait_closed(self) -> None:
        """Until nothing of a released round runs any more."""
        await self._jobs.wait()
        await self._results.wait_closed()

    @property
    def takes_answers(self) -> bool:
        return self.stage in {Stage.RUNNING, Stage.CLOSING}

    @property
    def remaining_s(self) -> float:
        """Seconds to the deadline."""
        return self._deadline_at - self._loop.time()

    @property
    def required(self) -> Sequence[tuple[str, str]]:
        """(field, who needs it) of the metadata that every update must have."""
        return self._results.required

    @property
    def update_bytes(self) -> int | None:
        """Size of an update that went through no chain; None until the base model is here."""
        return self._results.update_bytes

    @property
    def done(self) -> bool:
        return self.stage in {Stage.DONE, Stage.RELEASED}

    # What happens to objects and clients.

    def object_arrived(self, object_id: str) -> None:
        self._results.look_for_state()
        if self.stage is Stage.RUNNING and object_id in self._needs and self._take_base():
            self._jobs.start(self._dispatch.send_all(tuple(self.tasks.values()), {object_id}))

    def attached(self, peer: Peer) -> None:
        for task in self._by_client.get(peer.info.client, ()):
            task.rest()
            if not task.answered and (self.stage is Stage.RUNNING or task.upload is not None):
                self._dispatch.send(task, peer)

    def detached(self, client: str) -> None:
        self._miss(client)

    def wanted(self, client: str, object_id: str) -> OpenTask | None:
        """The open task of this client that names the object."""
        open_tasks = () if self.done else self._by_client.get(client, ())
        return next((task for task in open_tasks if not task.answered and task.names(object_id)), None)

    # What clients say.

    def accepted(self, task: OpenTask) -> None:
        if task.advance(LedgerState.TRAINING):
            self.events.ledger(task.entry())

    def failed(self, task: OpenTask, problem: common.Problem) -> None:
        if not task.answered:
            self._drop_upload(task)
            self._settle(task, LedgerState.FAILED, reason_from_wire(problem))

    def ready(self, peer: Peer, task: OpenTask, ready: wire.Ready) -> None:
        """A result is announced, perhaps again: it is acknowledged, refused, or granted in its turn."""
        if task.answered or not self.takes_answers:
            refusal = self._answers.repeat(peer, task, ready)
            if refusal is not None:
                self._services.metrics.refusals.labels(refusal.code).inc()
            return
        if task.spec.kind is TaskKind.TRAIN and self._results.base is None:
            return  # the base model is on its way; then the task goes out, and the result is announced again
        upload = task.upload
        if upload is not None and (upload.object_id, upload.size_bytes) == (ready.object_id, ready.size_bytes):
            peer.lane.add(upload)
            return
        try:
            metadata = self._intake.check(task.spec, ready)
        except FednError as error:
            self._refuse(task, error)
            return
        room = task.take_credit()
        self._drop_upload(task)
        task.metadata = metadata
        task.done(self._loop.time())
        if room is not None and not (ready.follows and 0 < ready.size_bytes <= room.size_bytes):
            room.release()
            room = None
        if ready.size_bytes == 0:
            self._answers.acknowledge(task)
            self._settle(task, LedgerState.UPDATED)
            return
        task.upload = self._intake.upload(self, task, ready, metadata, room)
        if room is not None:
            peer.lane.add_granted(task.upload)
        else:
            peer.lane.add(task.upload)

    def upload_end(self, peer: Peer, task: OpenTask) -> None:
        """The client sent all it had; an upload that was parked meanwhile is granted again."""
        if task.upload is not None and task.upload.phase is Phase.PARKED:
            peer.lane.add(task.upload)

    # What uploads report (UploadOwner).

    def upload_started(self, upload: Upload) -> None:
        # A message of one piece is there as soon as it is granted: not worth an event of its own.
        task = self.tasks[upload.task_id]
        if upload.size_bytes > CHUNK_BYTES and task.advance(LedgerState.UPLOADING):
            self.events.ledger(task.entry())

    def upload_parked(self, upload: Upload) -> None:
        task = self.tasks[upload.task_id]
        if self.stage is Stage.CLOSING and not task.answered:
            self._late(task, "its upload made no progress")
            self._complete()

    def upload_refused(self, upload: Upload, error: FednError) -> None:
        self._refuse(self.tasks[upload.task_id], error)

    def upload_received(self, upload: Upload, spec: ModelSpec | None, storage: Storage) -> None:
        task = self.tasks[upload.task_id]
        assert task.metadata is not None  # set with the upload
        task.upload, task.update_id, task.answered = None, upload.object_id, True
        task.rest()
        self._answers.acknowledge(task)
        arrived = Arrived(
            task.spec.client,
            upload.task_id,
            upload.object_id,
            upload.size_bytes,
            task.metadata,
            spec,
            storage,
            upload.encoding,
        )
        self._results.put(task.spec.kind, arrived)

    # What becomes of results (ResultsOwner).

    def result_counts(self, arrived: Arrived) -> None:
        self._services.metrics.updates.inc()
        self._settle(self.tasks[arrived.task_id], LedgerState.UPDATED, size_bytes=arrived.size_bytes)

    def result_refused(self, arrived: Arrived, error: FednError) -> None:
        self._refuse(self.tasks[arrived.task_id], error)

    def results_lost(self, error: BaseException) -> None:
        if self.done:
            return
        _log.error("the results of a round are lost", extra={"round": self.name}, exc_info=error)
        self._abort(f"failed: {error}", "the combiner could not add up the updates")

    # From here on: how it works.

    def _take_base(self) -> bool:
        """False where the base model is no model, and the round ended."""
        try:
            self._results.take_base()
        except InvalidInput as error:
            self._abort(f"failed: {error.message}", "the base model cannot be read")
            return False
        return True

    def _miss(self, client: str) -> None:
        for task in self._by_client.get(client, ()):
            task.drop_credit()
            if not task.answered and task.absent is None and self.stage in {Stage.RUNNING, Stage.CLOSING}:
                task.absent = self._loop.call_later(self.spec.disconnect_grace_s, self._disconnected, task)

    def _disconnected(self, task: OpenTask) -> None:
        task.absent = None
        if task.answered:
            return
        self._drop_upload(task)
        self._settle(task, LedgerState.DISCONNECTED, away(self.spec.disconnect_grace_s))

    def _refuse(self, task: OpenTask, error: FednError) -> None:
        self._drop_upload(task)
        self._services.metrics.refusals.labels(error.code).inc()
        self._answers.refuse(task, error)
        self._settle(task, LedgerState.REFUSED, reason_of(error))

    def _late(self, task: OpenTask, what: str) -> None:
        error = late(what, task.spec)
        if task.upload is not None:
            self._answers.refuse(task, error)
        else:
            self._answers.cancel(task, what)
        self._drop_upload(task)
        self._settle(task, LedgerState.LATE, reason_of(error), complete=False)

    def _drop_upload(self, task: OpenTask) -> None:
        task.drop_credit()
        upload, task.upload = task.upload, None
        if upload is None:
            return
        peer = self._services.clients.get(task.spec.client)
        if peer is not None:
            peer.lane.drop(upload)
        else:
            upload.drop()

    def _settle(
        self,
        task: OpenTask,
        state: LedgerState,
        reason: Reason | None = None,
        *,
        size_bytes: int = 0,
        complete: bool = True,
    ) -> None:
        """Gives a task its final state, once."""
        if task.state.final:
            return
        task.rest()
        task.drop_credit()
        task.state, task.answered = state, True
        task.done(self._loop.time())
        self._open -= 1
        self.events.ledger(task.entry(reason, size_bytes))
        if state is not LedgerState.UPDATED:
            self._results.skip(task.spec.task_id)
        if complete:
            self._complete()

    def _complete(self) -> None:
        if self._open == 0 and self.stage in {Stage.RUNNING, Stage.CLOSING}:
            self._finish()

    def _deadline(self) -> None:
        self._reason = "deadline"
        self._close("deadline", self.spec.upload_grace_s)

    def _close(self, why: str, grace_s: float) -> None:
        self.stage = Stage.CLOSING
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(grace_s, self._grace_over, why) if grace_s > 0 else None
        for task in self.tasks.values():
            progressing = task.upload is not None and task.upload.phase is not Phase.PARKED
            if not task.answered and not (grace_s > 0 and progressing):
                self._late(task, why)
        self._complete()

    def _grace_over(self, why: str) -> None:
        self._timer = None
        for task in self.tasks.values():
            if not task.answered:
                self._late(task, why)
        self._complete()

    def _finish(self) -> None:
        self.stage = Stage.SEALING
        self._stop_timers()
        self._jobs.start(self._seal())

    async def _seal(self) -> None:
        self._dispatch.let_go()
        try:
            result = await self._results.seal(self._reason)
        except FednError as error:
            self._abort(f"failed: {error.message}", error.message)
            return
        if self.stage is Stage.SEALING:  # not cancelled meanwhile
            self._end(result)

    def _abort(self, reason: str, why: str) -> None:
        """Ends the round without a result."""
        if self.done:
            return
        self.stage = Stage.SEALING
        self._stop_timers()
        for task in self.tasks.values():
            if not task.answered:
                task.answered = True
                self._drop_upload(task)
                self._answers.cancel(task, why)
        self._end(link.RoundDone(reason=reason))

    def _end(self, result: link.RoundDone) -> None:
        self.stage = Stage.DONE
        self._results.close()
        metrics = self._services.metrics
        metrics.rounds.labels(result.reason.partition(":")[0]).inc()
        metrics.round_seconds.observe(self._loop.time() - self._started_at)
        metrics.fold_seconds.inc(result.fold_ms / 1000)
        self.events.done(result)

    def _stop_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self.tasks.values():
            task.rest()
