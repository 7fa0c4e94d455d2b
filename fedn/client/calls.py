"""What the agent asks a runtime (a Learner's worker, a package's commands) to do, and what it gets back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fedn.client.slots import HeldFile, Slot
from fedn.protocol.tasks import CodecChoice, Sections, TaskKind


@dataclass(frozen=True, kw_only=True)
class TaskCall:
    """One task, with its model."""

    task_id: str
    kind: TaskKind
    session: str
    round: int
    client: str
    parameters: dict[str, Any]
    step_budget: int | None = None
    validate_incoming: bool = False
    helper: str = ""
    algorithm: str = "blake3"
    """Of the digest that names the result."""
    model: bytes | bytearray | HeldFile | None = None
    """The model to work on, as it came: its bytes, or the file that holds them; None for init."""
    model_id: str = ""
    model_chain: tuple[CodecChoice, ...] = ()
    """What the model went through, and has to be freed of; empty where it came as it is."""
    update_chain: tuple[CodecChoice, ...] = ()
    """What the update is asked to go through."""
    extras: Sections = ()
    """What follows the model in its bytes, and is wanted behind an update."""
    last_counted: int | None = None
    """Index of the session's last round whose model counts this client's update, where there are extras."""
    feedback_folder: Path | None = None
    """Where what updates leave out is kept (fedn.client.feedback)."""
    result: Slot | None = None
    """Where a large result may be written; None where the task makes no tensors."""
    timeout_s: float | None = None
    """Seconds after which the task has failed and what runs it is killed."""


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """What a task made. Times in milliseconds, 0 where not measured."""

    num_examples: int = 0
    num_steps: int = 0
    ms_per_step: float = 0.0
    ms_per_epoch: float = 0.0
    train_ms: float = 0.0
    validate_ms: float = 0.0
    form: str = "model"
    metrics: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    num_validation_examples: int = 0
    object_id: str = ""
    """Digest of the tensors' bytes, as they go out; empty where the task makes none."""
    size_bytes: int = 0
    tensors: bytes | bytearray | Slot | None = None
    """The bytes, or the file (the call's `result`) that begins with them."""
    coded: bool = False
    """Whether they went through the update chain."""
    decoded_bytes: int = 0
    """Their size before that; 0 where there are none."""
    key_id: str = ""
    """Of the key that they are encrypted with; empty: they are not encrypted."""
    cpu_ms: float = 0.0
    """Processor time, over all threads."""
    memory_bytes: int = 0
    """The most that the process has held up to now; 0 where not measured."""
    extras: Sequence[Mapping[str, Any]] = ()
    """Name and `size_bytes` of each section that follows the update's tensors."""


class ProgressSink(Protocol):
    """Takes a task's progress: a fraction 0..1, metrics so far."""

    def __call__(self, fraction: float, metrics: dict[str, float]) -> None: ...


class Runtime(Protocol):
    """What runs tasks, one at a time. Errors of the site's code arrive as TaskFailed; the runtime lives on."""

    @property
    def kinds(self) -> frozenset[TaskKind]:
        """What it can do; known after `start`."""

    async def start(self) -> None:
        """Makes it ready. TaskFailed with the reason where that fails; may be tried again."""

    async def run(self, call: TaskCall, progress: ProgressSink) -> TaskOutcome:
        """Does one task. TaskFailed where it does not work out, with the code's own error text."""

    async def cancel(self, task_id: str) -> None:
        """Asks a task to end early and kills it if it does not; `run` then raises TaskFailed (`task_cancelled`).

        Nothing happens if that task is not the one that runs.
        """

    async def close(self) -> None:
        """Ends every process that it started."""
