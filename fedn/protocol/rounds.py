"""Rounds: what a combiner is told to do, what it reports, and the ledger that says what became of each client."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from fedn.protocol.tasks import Frozen, RoundName, TaskSpec, UpdateMetadata


class LedgerState(StrEnum):
    """What became of a client in a round. The last six are final."""

    NOT_SELECTED = "not_selected"
    SELECTED = "selected"
    TRAINING = "training"
    UPLOADING = "uploading"
    UPDATED = "updated"
    LATE = "late"
    REFUSED = "refused"
    FAILED = "failed"
    DISCONNECTED = "disconnected"

    @property
    def final(self) -> bool:
        return self not in {LedgerState.SELECTED, LedgerState.TRAINING, LedgerState.UPLOADING}


class Reason(Frozen):
    """Why something became as it is: a code of docs/reference/errors.md, a sentence, and what to do."""

    code: str
    message: str
    fix: str = ""


class LedgerEntry(Frozen):
    """One client in one round, as the ledger shows it."""

    client: str
    combiner: str = ""
    task_id: str = ""
    state: LedgerState
    reason: Reason | None = None
    update_id: str = ""
    """Digest of the update's bytes."""
    size_bytes: int = 0
    metadata: UpdateMetadata | None = None
    down_bytes: int = Field(default=0, ge=0)
    """Of models and packages that went to the client for this task, what was sent again included."""
    up_bytes: int = Field(default=0, ge=0)
    """Of its result that came from the client, what came again or in vain included."""
    busy_ms: float = Field(default=0.0, ge=0)
    """From the sending of the task to the announcement of its result, or its end: by the combiner's clock."""
    sent_at: float = Field(default=0.0, ge=0)
    """Unix time, in seconds, at which the client was first told of the task: by the combiner's clock; 0: not yet."""
    updated_at: float = 0.0
    """Unix time, in seconds, of the last change."""
    base_index: int | None = None
    """Where tasks go on over commits: index of the round whose model the client started from."""
    staleness: int | None = None
    """Of an update that counted there: commits between that model and the one that the update changed."""
    weight: float | None = None
    """What such an update was multiplied by in the sum: its scaling factor times the weight of its staleness."""


class Usage(Frozen):
    """What work took: of a client in a round, or summed over clients and rounds. Sums of two are exact."""

    tasks: int = 0
    """Tasks that clients were asked to do, each attempt at a round anew."""
    updates: int = 0
    """Of these, the ones whose result counted."""
    down_bytes: int = 0
    """Of models and packages that went to clients, what was sent again included."""
    up_bytes: int = 0
    """Of results that came from clients, what came again or in vain included."""
    task_ms: float = 0.0
    """Work as the clients report it, of results that counted."""
    busy_ms: float = 0.0
    """From the sending of a task to its result's announcement or its end, by the combiners' clocks."""
    cpu_ms: float = 0.0
    """Processor time of the steps, over all their threads, of results that counted."""
    memory_bytes: int = 0
    """The most that the process of a step held; of two usages the greater one."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            tasks=self.tasks + other.tasks,
            updates=self.updates + other.updates,
            down_bytes=self.down_bytes + other.down_bytes,
            up_bytes=self.up_bytes + other.up_bytes,
            task_ms=self.task_ms + other.task_ms,
            busy_ms=self.busy_ms + other.busy_ms,
            cpu_ms=self.cpu_ms + other.cpu_ms,
            memory_bytes=max(self.memory_bytes, other.memory_bytes),
        )


def usage_of(entry: LedgerEntry) -> Usage:
    """What a client's task took; nothing for a client that was not asked."""
    updated = entry.state is LedgerState.UPDATED
    told = entry.metadata if updated else None
    return Usage(
        tasks=int(bool(entry.task_id)),
        updates=int(updated),
        down_bytes=entry.down_bytes,
        up_bytes=entry.up_bytes,
        task_ms=told.task_ms if told is not None else 0.0,
        busy_ms=entry.busy_ms,
        cpu_ms=told.cpu_ms if told is not None else 0.0,
        memory_bytes=told.memory_bytes if told is not None else 0,
    )


class StepBudget(Frozen):
    """The optimizer steps that a client was asked for."""

    steps: int = Field(gt=0)
    ms_per_step: float = Field(gt=0)
    """As the client had measured it."""


class StepBudgets(Frozen):
    """What the step budgets of a round were made of; clients that are not named made their learner's own epochs."""

    window_ms: float = Field(gt=0)
    """The time that every client's steps were to fill."""
    slowest: str
    """The client whose epoch takes longest, which that time follows from."""
    clients: dict[str, StepBudget] = Field(default_factory=dict)

    @property
    def steps(self) -> dict[str, int]:
        return {client: budget.steps for client, budget in self.clients.items()}


class HandsUp(StrEnum):
    """What a combiner hands up of a rule's aggregate while its clients work on, in buffered rounds."""

    DIFFERENCE = "difference"
    """The mean difference of the updates since the last hand-up to their base model, apart for each base model."""
    MEAN = "mean"
    """The whole mean of all that counts there, whatever models it started from."""


class RoundSpec(Frozen):
    """What one combiner executes: an explicit list of tasks, and when to stop waiting."""

    name: RoundName
    tasks: tuple[TaskSpec, ...]
    deadline_s: float = Field(gt=0)
    upload_grace_s: float = Field(default=30.0, ge=0)
    disconnect_grace_s: float = Field(default=30.0, ge=0)
    rule: str = "fedavg"
    rule_options: dict[str, Any] = Field(default_factory=dict)
    scaling_factor: str = "NumTrainingExamples"
    scaling_options: dict[str, Any] = Field(default_factory=dict)
    sum_dtype: str = Field(default="float64", pattern="^float(32|64)$")
    deterministic: bool = False
    members: tuple[str, ...] | None = None
    """Clients whose earlier updates count at this combiner, where the rule goes by such; empty in a buffered round,
    whose hand-ups say it. None: the rule does not, or the round makes no model."""
    combiner_optimizer: str = ""
    """What steps from the base model towards the mean of this combiner's clients; empty: the mean is its model."""
    combiner_optimizer_options: dict[str, Any] = Field(default_factory=dict)
    optimizer_state_id: str = ""
    """Digest of its state after its last step at this combiner; empty: there is none."""
    buffered: bool = False
    """What is in is handed up whenever the reducer asks, as the rule's `HandsUp` says; tasks may be added, and the
    round ends only when it is closed. `deadline_s` is each task's then, from when it came."""
    required_metadata: dict[str, str] = Field(default_factory=dict)
    """Fields of an update's metadata that must be above 0, besides those that the rule and the scaling factor need;
    each with who needs it."""


class Contribution(Frozen):
    """A client's part in a combiner model. `weight` is what its update was multiplied by in the sum.

    With a rule that goes by earlier updates, the client may have sent it in an earlier round of the session.
    """

    client: str
    update_id: str
    num_examples: int
    weight: float
    base_index: int | None = None
    """With such a rule: index of the round whose model the update was made from."""


class CombinerModel(Frozen):
    """The aggregate of one combiner in one round: a mean, with the weight that it stands for."""

    combiner: str
    model_id: str
    size_bytes: int = 0
    weight: float
    contributions: tuple[Contribution, ...]
    fold_ms: float = 0.0
    memory_bytes: int = 0
    """Resident memory of the combiner's process when it had made the model; 0 where not told."""
    base_index: int | None = None
    """Where it is a mean difference to a model that is perhaps no longer the latest: index of the round whose model
    that is."""


class RoundState(StrEnum):
    """waiting (for enough clients) -> running -> aggregating -> committed, or failed (retried or not)."""

    WAITING = "waiting"
    RUNNING = "running"
    AGGREGATING = "aggregating"
    COMMITTED = "committed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RoundKind(StrEnum):
    """A training round makes a model; the others ask clients something about a model that is there."""

    TRAIN = "train"
    VALIDATE = "validate"
    INIT = "init"
    PREDICT = "predict"
