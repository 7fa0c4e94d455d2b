"""Runs tasks on a Learner in a persistent worker process: started once, restarted when it died or was killed."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedn.client.calls import ProgressSink, TaskCall, TaskOutcome
from fedn.client.coding import request_of
from fedn.client.command import timed_out
from fedn.client.isolation.places import Ending, Place, WorkerProcess
from fedn.client.seeds import task_seed
from fedn.client.slots import HeldFile, Slot
from fedn.client.worker_channel import INLINE_BYTES
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskKind

_CANCEL_GRACE_S = 5.0
_GONE = (EOFError, ConnectionError)


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """Which Learner, and what it is given."""

    learner: str
    """`module:Class` or `path/file.py:Class`."""
    folder: Path | None
    """The worker's working directory, also on its sys.path; None: the agent's."""
    client: str
    data_path: Path | None
    work_dir: Path
    output_bytes: int = 10 << 20
    """Bytes of output a task may put into the log."""
    load_timeout_s: float = 600.0


class LearnerRuntime:
    """See `fedn.client.calls.Runtime`.

    Args:
        settings: the Learner, and what it is given.
        place: where its worker runs.
    """

    def __init__(self, settings: LearnerSettings, place: Place) -> None:
        self._settings = settings
        self._place = place
        self._worker: WorkerProcess | None = None
        self._kinds: frozenset[TaskKind] = frozenset()
        self._running: str | None = None
        self._finished = asyncio.Event()
        self._cancelled = False

    @property
    def kinds(self) -> frozenset[TaskKind]:
        return self._kinds

    async def start(self) -> None:
        if self._worker is not None:
            return
        worker = await self._place.start_worker(self._settings.folder, self._settings.output_bytes)
        try:
            async with asyncio.timeout(self._settings.load_timeout_s):
                await worker.channel.send(self._load_message())
                head = (await worker.channel.receive()).head
        except TimeoutError as error:
            await worker.end()
            raise TaskFailed(
                "learner_load_timeout", f"the learner was not loaded within {self._settings.load_timeout_s:g} s"
            ) from error
        except _GONE as error:
            raise _died(worker, await worker.end(), "while it loaded the learner") from error
        except asyncio.CancelledError:
            await worker.end()
            raise
        if head["op"] == "failed":
            await worker.end()
            raise self._place.explained(TaskFailed(head["code"], head["message"], fix=head["fix"]))
        self._kinds = frozenset(TaskKind(kind) for kind in head["kinds"])
        self._worker = worker

    async def run(self, call: TaskCall, progress: ProgressSink) -> TaskOutcome:
        await self.start()
        worker = self._worker
        assert worker is not None
        worker.output.reset()
        self._running, self._cancelled = call.task_id, False
        self._finished.clear()
        try:
            async with asyncio.timeout(call.timeout_s):
                return await self._exchange(worker, call, progress)
        except TimeoutError as error:
            await self._drop()
            raise timed_out(call.kind, call.timeout_s) from error
        except _GONE as error:
            ended = await self._drop()
            if self._cancelled:
                raise TaskFailed("task_cancelled", "the task was cancelled and its process killed") from error
            raise _died(worker, ended, f"in the {call.kind} step") from error
        except asyncio.CancelledError:
            await self._drop()
            raise
        finally:
            self._running = None
            self._finished.set()

    async def cancel(self, task_id: str) -> None:
        if self._running != task_id or self._worker is None:
            return
        self._cancelled = True
        worker = self._worker
        try:
            await worker.channel.send({"op": "cancel", "task_id": task_id})
            async with asyncio.timeout(_CANCEL_GRACE_S):
                await self._finished.wait()
        except (TimeoutError, ConnectionError):
            worker.kill()
            await self._finished.wait()

    async def close(self) -> None:
        await self._drop()

    async def _exchange(self, worker: WorkerProcess, call: TaskCall, progress: ProgressSink) -> TaskOutcome:
        inline = call.model if isinstance(call.model, bytes | bytearray) else b""
        await worker.channel.send(_task_message(await worker.lend(call)), inline)
        while True:
            head, payload = await worker.channel.receive()
            if head["task_id"] != call.task_id:
                continue  # of a task before this one, which reported from a thread that outlived it
            if head["op"] == "progress":
                progress(head["fraction"], head["metrics"])
            elif self._cancelled:
                raise TaskFailed("task_cancelled", "the task was cancelled")
            elif head["op"] == "failed":
                raise self._place.explained(TaskFailed(head["code"], head["message"], fix=head["fix"]))
            else:
                if head["object_id"] and head["size"] > INLINE_BYTES:
                    await worker.take_back(call, head["size"])
                return _outcome(head, payload, call)

    def _load_message(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "op": "load",
            "learner": settings.learner,
            "folder": None if settings.folder is None else str(settings.folder),
            "client": settings.client,
            "data_path": None if settings.data_path is None else str(settings.data_path),
            "work_dir": str(settings.work_dir),
            "memory_bytes": self._place.address_space_bytes,
        }

    async def _drop(self) -> Ending:
        worker, self._worker = self._worker, None
        return await worker.end() if worker is not None else Ending("worker_died", "was ended")


def _task_message(call: TaskCall) -> dict[str, Any]:
    plan_seed = call.parameters.get("seed", 0)
    model, result = call.model, call.result
    return {
        "op": "task",
        "task_id": call.task_id,
        "kind": call.kind,
        "session": call.session,
        "round": call.round,
        "parameters": call.parameters,
        "step_budget": call.step_budget,
        "seed": task_seed(plan_seed if isinstance(plan_seed, int) else 0, call.client, call.round),
        "last_counted": call.last_counted,
        "validate_incoming": call.validate_incoming,
        "algorithm": call.algorithm,
        "coding": request_of(call).as_json(),
        "model": {"path": str(model.path), "size": model.size_bytes} if isinstance(model, HeldFile) else None,
        "result": None if result is None else str(result.path),
    }


def _outcome(head: dict[str, Any], payload: bytearray, call: TaskCall) -> TaskOutcome:
    tensors: bytearray | Slot | None = None
    size_bytes = head["size"]
    if head["object_id"]:
        tensors = payload if size_bytes <= INLINE_BYTES else call.result
        if tensors is None or size_bytes > (tensors.size_bytes if isinstance(tensors, Slot) else len(tensors)):
            raise TaskFailed(
                "bad_result", f"the worker says that its result has {size_bytes} bytes: they are not there"
            )
    return TaskOutcome(**head["numbers"], object_id=head["object_id"], size_bytes=size_bytes, tensors=tensors)


def _died(worker: WorkerProcess, ended: Ending, when: str) -> TaskFailed:
    tail = worker.output.tail
    return TaskFailed(
        ended.code,
        f"the worker process {ended.text} {when}" + (f"; it last said: {tail[-600:]}" if tail else ""),
        fix="Its output is in the client's log; the next task starts a new one.",
    )
