"""The worker process of a Learner client: `python -m fedn.client.worker FD`. Only here does the site's own code run.

It takes its orders from the agent over the socket FD, one task at a time, and ends when the agent has gone. It imports
the site's module (and so the framework) once.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedn.client.coding import CodingRequest, TaskCoding
from fedn.client.execution import execute, fail, kinds_of
from fedn.client.learner import Learner, TaskContext
from fedn.client.loading import load_learner
from fedn.client.slots import HeldFile
from fedn.client.usage import peak_memory_bytes, processor_ms
from fedn.client.worker_channel import INLINE_BYTES, Message, WorkerEnd
from fedn.client.worker_memory import ModelMemory, ResultFiles, TaskMemory
from fedn.models.digest import digest
from fedn.protocol.errors import FednError, TaskFailed

_PR_SET_PDEATHSIG = 1


def main() -> int:
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    _end_with_agent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the agent decides what ends
    with sock:
        return Worker(WorkerEnd(sock)).serve()


def _end_with_agent() -> None:
    """A killed agent takes its worker along, also in the middle of a training."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """Serves one Learner. What is sent and received is described at each method."""

    def __init__(self, channel: WorkerEnd) -> None:
        self._channel = channel
        self._client = ""
        self._data_path: Path | None = None
        self._work_dir = Path()
        self._cancelled: set[str] = set()
        self._memory = ModelMemory()
        self._results = ResultFiles()

    def serve(self) -> int:
        """`load` comes first; then `task` after `task`, and `cancel` at any time."""
        try:
            learner = self._load(self._channel.receive())
            while learner is not None:
                message = self._channel.receive()
                if message.head["op"] == "cancel":
                    self._cancelled.add(message.head["task_id"])
                else:
                    self._task(learner, message)
                    self._cancelled.clear()
        except EOFError:
            return 0
        return 1

    def _load(self, message: Message) -> Learner | None:
        """`load` {learner, folder, data_path, work_dir, memory_bytes, client} → `loaded` {kinds} or `failed`."""
        head = message.head
        try:
            _limit_memory(head["memory_bytes"])
            learner = _make_learner(head["learner"], head["folder"])
        except FednError as error:
            self._send_failed("", error)
            return None
        self._client, self._work_dir = head["client"], Path(head["work_dir"])
        self._data_path = None if head["data_path"] is None else Path(head["data_path"])
        self._channel.send({"op": "loaded", "kinds": kinds_of(learner)})
        return learner

    def _task(self, learner: Learner, message: Message) -> None:
        """`task` {its fields, coding …}, model → `done` {numbers, object_id, size}, tensors; or `failed`.

        Large models and results are in files instead: `model` {path, size}, `result` (a path).
        """
        head = message.head
        task_id = head["task_id"]
        try:
            memory = TaskMemory(self._memory, self._results, head["result"])
            request = CodingRequest.from_json(head["coding"])
            coding = TaskCoding(request, _held(head["model"], message.payload), memory)
            used_ms = processor_ms()
            result = execute(learner, self._context(head), coding, validate_incoming=head["validate_incoming"])
            result.numbers.update(cpu_ms=processor_ms() - used_ms, memory_bytes=peak_memory_bytes())
            answer: dict[str, Any] = {
                "op": "done",
                "task_id": task_id,
                "numbers": result.numbers,
                "object_id": "",
                "size": 0,
            }
            if result.tensors is None:
                self._channel.send(answer)
                return
            sections = memory.written(result.tensors, result.extras)
            result.numbers["extras"] = sections.extras
            with sections.data as tensors:
                if not result.numbers.get("coded"):
                    result.numbers["decoded_bytes"] = len(tensors)
                answer |= {"object_id": digest(tensors, head["algorithm"]), "size": len(tensors)}
                self._channel.send(answer, tensors if len(tensors) <= INLINE_BYTES else b"")
        except FednError as error:
            self._send_failed(task_id, error)
        except MemoryError as error:
            self._send_failed(task_id, TaskFailed("out_of_memory", f"the task ran out of memory: {error}"))

    def _context(self, head: Mapping[str, Any]) -> TaskContext:
        task_id = head["task_id"]

        def report(fraction: float, metrics: Mapping[str, float]) -> None:
            values = {str(name): float(value) for name, value in metrics.items()}
            self._channel.send({"op": "progress", "task_id": task_id, "fraction": float(fraction), "metrics": values})

        return TaskContext(
            session=head["session"],
            round=head["round"],
            client=self._client,
            kind=head["kind"],
            task_id=task_id,
            parameters=head["parameters"],
            step_budget=head["step_budget"],
            seed=head["seed"],
            last_counted=head["last_counted"],
            data_path=self._data_path,
            work_dir=self._work_dir,
            is_cancelled=lambda: self._is_cancelled(task_id),
            report=report,
        )

    def _is_cancelled(self, task_id: str) -> bool:
        # While a task runs the agent sends nothing but cancellations, or goes.
        while task_id not in self._cancelled and self._channel.has_message():
            try:
                self._cancelled.add(self._channel.receive().head["task_id"])
            except EOFError:
                return True
        return task_id in self._cancelled

    def _send_failed(self, task_id: str, error: FednError) -> None:
        self._channel.send(
            {"op": "failed", "task_id": task_id, "code": error.code, "message": error.placed, "fix": error.fix}
        )


def _make_learner(name: str, folder: str | None) -> Learner:
    """The site's own module is imported here; what it raises becomes TaskFailed."""
    try:
        return load_learner(name, None if folder is None else Path(folder))
    except FednError:
        raise
    except Exception as error:  # noqa: BLE001 (the boundary to the site's own code)
        fail(error, f"the learner {name} cannot be loaded")


def _held(file: Mapping[str, Any] | None, payload: bytearray) -> bytearray | HeldFile | None:
    """The model as it came; None for a task without one."""
    return HeldFile(Path(file["path"]), file["size"]) if file is not None else payload or None


def _limit_memory(memory_bytes: int | None) -> None:
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads and atexit handlers of frameworks may hang; nothing of ours is left to do.
    os._exit(status)
