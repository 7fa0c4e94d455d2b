"""What the engine remembers of sessions and rounds, as documents of the state store.

A round's record is written while its combiners are told to start: a reducer that comes back finds it, or in the worst
case the round itself at its combiners.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import as_json
from fedn.protocol.rounds import CombinerModel, LedgerEntry, Reason, RoundKind, RoundState, StepBudgets, Usage, usage_of
from fedn.protocol.tasks import Frozen, RoundName, TaskKind, TaskSpec
from fedn.stores.base import JsonText, Put, StateStore

SESSIONS = "sessions"
ROUNDS = "rounds"
LEDGERS = "ledgers"
"""What of a round's ledger does not fit its document: a round of thousands of clients has more to tell than that."""

_OWN_FIELDS = {"task_id", "client", "step_budget"}
LEDGER_BYTES = 1 << 20
"""JSON text of a ledger in one document, about."""


class SessionState(StrEnum):
    """running -> finished, failed or stopped; a failed or stopped session can be resumed."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class SessionRecord(Frozen):
    id: str
    name: str
    kind: RoundKind = RoundKind.TRAIN
    """What its rounds do: `train`, or `predict` and `validate` for a session of one such round."""
    state: SessionState
    plan: SessionPlan
    rounds_done: int = 0
    model_id: str = ""
    """The latest global model of the session."""
    error: Reason | None = None
    ended_because: Reason | None = None
    """Why a finished session has finished."""
    created_at: float
    ended_at: float | None = None

    def document(self) -> JsonText:
        return JsonText(self.model_dump_json(by_alias=True))


class RoundRecord(Frozen):
    """One round with its latest attempt."""

    name: RoundName
    kind: RoundKind = RoundKind.TRAIN
    state: RoundState
    base_model_id: str = ""
    cohort: tuple[str, ...] = ()
    assignments: dict[str, tuple[TaskSpec, ...]] = Field(default_factory=dict)
    """Combiner name to the tasks that it executes."""
    members: dict[str, tuple[str, ...]] | None = None
    """Combiner name to the clients whose earlier updates count there; None where the rule does not go by such."""
    step_budgets: StepBudgets | None = None
    """What the tasks' step budgets were made of, where the scheduler gave some."""
    optimizer_states: dict[str, str] = Field(default_factory=dict)
    """Combiner name to the digest of its optimizer's state, of combiners that have one."""
    instances: dict[str, str] = Field(default_factory=dict)
    """Combiner name to the instance of its process that was told to start."""
    deadline_at: float = 0.0
    ledger: tuple[LedgerEntry, ...] = ()
    combiner_models: tuple[CombinerModel, ...] = ()
    model_id: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    spent: dict[str, Usage] = Field(default_factory=dict)
    """What each client spent on attempts at this round before the latest; the latest is in the ledger."""
    times_ms: dict[str, float] = Field(default_factory=dict)
    """Wall time of the round's parts: waiting, training, collecting, aggregation, commit, total."""
    error: Reason | None = None
    started_at: float
    ended_at: float | None = None

    @property
    def key(self) -> str:
        return round_key(self.name.session, self.name.index)

    @property
    def task_kinds(self) -> dict[str, TaskKind]:
        """Client name to the kind of its task."""
        return {task.client: task.kind for tasks in self.assignments.values() for task in tasks}

    @property
    def validators(self) -> tuple[str, ...]:
        """Clients that were asked only to validate, in a round of another kind."""
        if self.kind is RoundKind.VALIDATE:
            return ()
        return tuple(sorted(client for client, kind in self.task_kinds.items() if kind is TaskKind.VALIDATE))


def spent_so_far(record: RoundRecord) -> dict[str, Usage]:
    """What each client spent on the round up to now, over all attempts."""
    total = dict(record.spent)
    for entry in record.ledger:
        if entry.task_id:
            total[entry.client] = total.get(entry.client, Usage()) + usage_of(entry)
    return total


def round_key(session: str, index: int) -> str:
    """Keys sort as the rounds do."""
    return f"{session}/{index:08d}"


def read_session(document: dict[str, Any]) -> SessionRecord:
    return SessionRecord.model_validate(document)


def round_documents(record: RoundRecord) -> list[Put]:
    """What is written down of a round; the document of the round itself comes last."""
    own = {"session": record.name.session, "index": record.name.index}
    first, *rest = _ledger_parts(record.ledger)
    more = {
        **own,
        "assignments": {combiner: _pack_tasks(tasks) for combiner, tasks in record.assignments.items()},
        "ledger_parts": len(rest),
    }
    text = record.model_dump_json(exclude={"ledger", "assignments"})
    document = JsonText(f'{text[:-1]},{_compact(more)[1:-1]},"ledger":{first}}}')
    own_text = _compact(own)[:-1]
    puts = [
        Put(LEDGERS, _part_key(record.key, number), JsonText(f'{own_text},"entries":{entries}}}'))
        for number, entries in enumerate(rest)
    ]
    return [*puts, Put(ROUNDS, record.key, document)]


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def save_round(state: StateStore, record: RoundRecord) -> None:
    """Writes the record down."""
    state.put_all(round_documents(record))


def read_round(state: StateStore, document: dict[str, Any]) -> RoundRecord:
    """The record of a document of ROUNDS, with what of its ledger is kept elsewhere."""
    fields = {name: value for name, value in document.items() if name not in {"session", "index", "ledger_parts"}}
    key = round_key(document["session"], document["index"])
    parts = [state.get(LEDGERS, _part_key(key, number)) for number in range(document["ledger_parts"])]
    fields["ledger"] = [*document["ledger"], *(entry for part in parts if part for entry in part["entries"])]
    fields["assignments"] = {combiner: _unpack_tasks(like) for combiner, like in document["assignments"].items()}
    return RoundRecord.model_validate(fields)


def read_budgets(document: dict[str, Any]) -> StepBudgets | None:
    """The step budgets in a document of ROUNDS."""
    found = document.get("step_budgets")
    return StepBudgets.model_validate(found) if found else None


def read_answers(state: StateStore, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(client, metadata) of each update in a document of ROUNDS; cheaper than its whole record."""
    key = round_key(document["session"], document["index"])
    parts = (state.get(LEDGERS, _part_key(key, number)) for number in range(document["ledger_parts"]))
    for entries in (document["ledger"], *(part["entries"] for part in parts if part)):
        for entry in entries:
            if entry.get("metadata"):
                yield entry["client"], entry["metadata"]


def load_round(state: StateStore, session: str, index: int) -> RoundRecord | None:
    document = state.get(ROUNDS, round_key(session, index))
    return read_round(state, document) if document else None


def _part_key(key: str, number: int) -> str:
    return f"{key}/{number:06d}"


def _ledger_parts(ledger: Iterable[LedgerEntry]) -> list[str]:
    """The entries as JSON arrays, in order, in parts of at most LEDGER_BYTES, or of one entry; at least one part."""
    parts: list[list[str]] = [[]]
    size_bytes = 0
    for entry in ledger:
        # What has its default value need not be said.
        text = entry.model_dump_json(exclude_unset=True)
        length = len(text) if text.isascii() else len(text.encode())
        if parts[-1] and size_bytes + length > LEDGER_BYTES:
            parts.append([])
            size_bytes = 0
        parts[-1].append(text)
        size_bytes += length
    return [f"[{','.join(part)}]" for part in parts]


def _pack_tasks(tasks: Sequence[TaskSpec]) -> list[dict[str, Any]]:
    """What tasks have in common is said once: `like` (its `task_id` lacks the client's name, with which each ends),
    and `budgets`, from client to step budget."""
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    texts: dict[int, str] = {}
    """What is no plain value as text, by its identity: the tasks of a round share it."""

    def comparable(value: object) -> object:
        if isinstance(value, str | bool):
            return value
        if id(value) not in texts:
            texts[id(value)] = json.dumps(as_json(value), sort_keys=True)
        return texts[id(value)]

    for task in tasks:
        prefix = task.task_id.removesuffix(task.client)
        group = (prefix, *(comparable(value) for name, value in vars(task).items() if name not in _OWN_FIELDS))
        if group not in groups:
            like = as_json(task.model_copy(update={"task_id": prefix, "client": "", "step_budget": None}))
            groups[group] = {"like": like, "budgets": {}}
        groups[group]["budgets"][task.client] = task.step_budget
    return list(groups.values())


def _unpack_tasks(groups: Sequence[Mapping[str, Any]]) -> tuple[TaskSpec, ...]:
    found = []
    for group in groups:
        like = TaskSpec.model_validate(group["like"])
        for client, budget in group["budgets"].items():
            own = {"task_id": like.task_id + client, "client": client, "step_budget": budget}
            found.append(like.model_copy(update=own))
    return tuple(sorted(found, key=lambda task: task.client))
