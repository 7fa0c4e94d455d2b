"""One attempt at a round: the parts of all its combiners at once, until the scheduler says commit or retry."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason
from fedn.protocol.tasks import TaskKind
from fedn.reducer.engine.earlier import note_earlier
from fedn.reducer.engine.part import PartLost, PartResult, RoundPart
from fedn.reducer.engine.records import RoundRecord
from fedn.scheduling.base import Progress, Scheduler, Verdict


@dataclass(frozen=True)
class AttemptResult:
    """What came of an attempt. Without `parts`, it is to be tried again, for the reason given."""

    parts: tuple[PartResult, ...]
    ledger: tuple[LedgerEntry, ...]
    retry_because: Reason | None
    training_ms: float
    collecting_ms: float


class RoundAttempt:
    """See the module.

    Args:
        record: the round, with its assignments.
        parts: one a combiner, not started yet.
        required: the quorum, counted over the federation.
        counts: the kind of task whose updates count towards the quorum.
        on_ledger: called for each change of the ledger, in order.
        trained: clients with an update in an earlier round of the session.
    """

    def __init__(
        self,
        record: RoundRecord,
        scheduler: Scheduler,
        *,
        required: int,
        counts: TaskKind,
        on_ledger: Callable[[LedgerEntry], None],
        trained: Collection[str] = (),
    ) -> None:
        self._scheduler = scheduler
        self._required = required
        self._on_ledger = on_ledger
        self._trained = trained
        self._goes_by_earlier = record.members is not None
        self._makes_model = counts in {TaskKind.TRAIN, TaskKind.INIT}
        self._ledger = {entry.client: entry for entry in record.ledger}
        self._counted = {
            task.client: combiner
            for combiner, tasks in record.assignments.items()
            for task in tasks
            if task.kind is counts
        }
        self._asked = {task.client: combiner for combiner, tasks in record.assignments.items() for task in tasks}
        # Kept up to date with the ledger: a count over thousands of clients at each of their changes takes minutes.
        states = {client: self._ledger[client].state for client in self._asked}
        self._updated = sum(states[client] is LedgerState.UPDATED for client in self._counted)
        self._open = sum(not states[client].final for client in self._counted)
        self._pending = sum(not state.final for state in states.values())
        self._lost: dict[str, PartLost] = {}
        self._changed = asyncio.Event()
        self._last_update = time.monotonic()

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        """The ledger now, by client name."""
        return tuple(self._ledger[client] for client in sorted(self._ledger))

    def note(self, entry: LedgerEntry) -> None:
        """Takes a change of a client's state."""
        before = self._ledger.get(entry.client)
        if before is None or before.combiner != entry.combiner or before.state is LedgerState.NOT_SELECTED:
            return  # a combiner speaks only of clients that it was given
        if entry.state.final:
            self._last_update = time.monotonic()
        self._enter(before, entry)
        # Most changes of a round of thousands of clients decide nothing.
        if self._scheduler.verdict(self._progress()) is not Verdict.WAIT:
            self._changed.set()

    def _enter(self, before: LedgerEntry, entry: LedgerEntry) -> None:
        self._ledger[entry.client] = entry
        ended = before.state.final - entry.state.final
        self._pending += ended
        if entry.client in self._counted:
            self._open += ended
            self._updated += (entry.state is LedgerState.UPDATED) - (before.state is LedgerState.UPDATED)
        self._on_ledger(entry)

    async def run(self, parts: Mapping[str, RoundPart]) -> AttemptResult:
        """Runs the parts to the scheduler's verdict. Cancelling it cancels them, and tells the combiners."""
        started = time.monotonic()
        running = {name: asyncio.create_task(part.run(), name=f"part {name}") for name, part in parts.items()}
        for task in running.values():
            task.add_done_callback(lambda _: self._changed.set())
        try:
            retry = await self._until_verdict(parts, running)
        except BaseException:
            await self._abandon(parts, running, "the reducer gave the round up")
            raise
        if retry is not None:
            await self._abandon(parts, running, retry.message)
        results = () if retry else tuple(running[name].result() for name in sorted(running) if name not in self._lost)
        if self._goes_by_earlier and not retry:
            changed = list(note_earlier(self._ledger.values(), results, self._trained))
            self._ledger.update({entry.client: entry for entry in changed})
        now = time.monotonic()
        return AttemptResult(
            parts=results,
            ledger=self.ledger,
            retry_because=retry,
            training_ms=(self._last_update - started) * 1e3,
            collecting_ms=(now - self._last_update) * 1e3,
        )

    async def _until_verdict(
        self, parts: Mapping[str, RoundPart], running: dict[str, asyncio.Task[PartResult]]
    ) -> Reason | None:
        """None to commit, else why to try again."""
        closing = False
        while True:
            self._changed.clear()
            for name, task in running.items():
                if task.done() and name not in self._lost:
                    self._note_end(name, task)
            verdict = self._scheduler.verdict(self._progress())
            if verdict is Verdict.RETRY:
                return self._too_few()
            if verdict is Verdict.COMMIT:
                waiting = [name for name, task in running.items() if not task.done()]
                if not waiting:
                    return None
                if self._pending and not closing:
                    closing = True
                    for name in waiting:
                        parts[name].close("the scheduler closed the round")
            await self._changed.wait()

    def _note_end(self, name: str, task: asyncio.Task[PartResult]) -> None:
        error = task.exception()
        if error is None:
            self._note_uncounted(name, task.result())
        elif isinstance(error, PartLost):
            self._lost[name] = error
            reason = Reason(code=error.code, message=error.message, fix=error.fix)
            for client, combiner in self._asked.items():
                if combiner == name:
                    self._override(client, LedgerState.DISCONNECTED, reason)
        else:
            raise error

    def _note_uncounted(self, name: str, result: PartResult) -> None:
        """A part is over: what its combiner never reported will not come; what it did not count does not count.

        Where the round is to make a model, an update that was reported and of which no combiner model came is lost.
        """
        counted = {part.client for part in result.model.contributions} if result.has_model else set()
        why = "the combiner model does not count this update"
        if not result.has_model:
            why = f"no combiner model came of this update ({result.reason or 'no reason was given'})"
        for client, combiner in self._asked.items():
            if combiner != name:
                continue
            state = self._ledger[client].state
            if not state.final:
                reason = Reason(code="no_answer", message="the round ended before the client answered")
                self._override(client, LedgerState.LATE, reason)
            elif (
                self._makes_model and state is LedgerState.UPDATED and client in self._counted and client not in counted
            ):
                reason = Reason(code="not_counted", message=why, fix="See the combiner's log.")
                self._override(client, LedgerState.REFUSED, reason)

    def _override(self, client: str, state: LedgerState, reason: Reason) -> None:
        before = self._ledger[client]
        if before.state is not LedgerState.UPDATED and before.state.final:
            return
        entry = before.model_copy(update={"state": state, "reason": reason, "updated_at": time.time()})
        self._enter(before, entry)

    def _progress(self) -> Progress:
        return Progress(
            updated=self._updated,
            open=self._open,
            pending=self._pending,
            required=self._required,
            selected=len(self._counted),
        )

    def _too_few(self) -> Reason:
        progress = self._progress()
        why = "; ".join(str(error) for error in self._lost.values())
        ended = progress.selected - progress.updated - progress.open
        message = f"{ended} of {progress.selected} clients ended without an update, {progress.required} are required"
        return Reason(code="quorum_missed", message=f"{message}; {why}" if why else message)

    async def _abandon(
        self, parts: Mapping[str, RoundPart], running: dict[str, asyncio.Task[PartResult]], reason: str
    ) -> None:
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)
        for part in parts.values():
            part.cancel(reason)
