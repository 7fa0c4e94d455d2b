"""The rounds of a training session, one after another. The next one begins as soon as it is known what it starts from,
while the one before becomes durable; but no round is committed before the one that it started from.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from fedn.plan.session import SessionPlan
from fedn.protocol.rounds import Reason, RoundKind, RoundState
from fedn.protocol.trail import TrailEntry
from fedn.reducer.engine.commit import Finished, RoundSpoiled, commit_round, finish_round
from fedn.reducer.engine.context import EngineContext
from fedn.reducer.engine.global_model import GlobalModel, passes_through
from fedn.reducer.engine.records import RoundRecord
from fedn.reducer.engine.round_run import RoundRun
from fedn.reducer.engine.setbacks import Setbacks

log = logging.getLogger(__name__)

_INTERRUPTED = {RoundState.RUNNING, RoundState.AGGREGATING}
_WITHDRAWN = Reason(
    code="base_spoiled",
    message="the model that the round started from did not become the global model",
    fix="The round before it is tried again; see its ledger.",
)


class Training:
    """See the module. Belongs to the engine's loop.

    Args:
        new_round: makes the round of an index, to be shown as live from now on.
        left: what an earlier process or run of the session left of rounds that are not committed, by index.
        on_commit: told of each entry.
        is_enough: says of a round that has its model whether no other shall follow it.
    """

    def __init__(
        self,
        plan: SessionPlan,
        context: EngineContext,
        *,
        new_round: Callable[[RoundKind, int], RoundRun],
        left: Mapping[int, RoundRecord],
        on_commit: Callable[[TrailEntry], None],
        is_enough: Callable[[RoundRecord], bool],
    ) -> None:
        self._plan = plan
        self._context = context
        self._new_round = new_round
        self._left = dict(left)
        self._on_commit = on_commit
        self._is_enough = is_enough
        self._attempts = {index: record.name.attempt + 1 for index, record in left.items()}
        """Number of the next attempt at each round that was tried."""
        self._setbacks = Setbacks(plan.max_attempts)
        self._following: RoundRun | None = None
        """The round that runs, or ran last."""
        self._promises: list[Callable[[], None]] = []

    async def run(self, first: int, head: TrailEntry, base: GlobalModel) -> TrailEntry:
        """All rounds from index `first` on, or until there are enough; the entry of the last one.

        Args:
            head: the trail's last entry.
            base: its model.

        Raises:
            Unavailable: (`round_failed`) a round failed too often; (`too_few_clients`, `clients_not_placed`).
            Conflict: the trail has another head.
        """
        try:
            return await self._run(first, head, base)
        finally:
            for settle in self._promises:
                settle()

    async def _run(self, index: int, head: TrailEntry, base: GlobalModel) -> TrailEntry:
        finished: Finished | None = None
        rounds = self._plan.rounds
        while finished is not None or index < rounds:
            following = asyncio.create_task(self._finish(index, base)) if index < rounds else None
            committing = asyncio.create_task(self._commit(finished, head)) if finished is not None else None
            try:
                if committing is not None and finished is not None:
                    try:
                        head = await committing
                    except RoundSpoiled as error:
                        # The round that began from its model is no use; it is tried again itself.
                        await _end(following)
                        self._withdraw(index)
                        await self._setbacks.after(finished.run, error.reason)
                        index, base, finished = finished.name.index, finished.base, None
                        rounds = self._plan.rounds
                        continue
                finished = await following if following is not None else None
                if finished is not None:
                    index, base = index + 1, finished.model
                    rounds = index if self._is_enough(finished.run.record) else rounds
            finally:
                await _end(following, committing)
        return head

    async def _commit(self, finished: Finished, head: TrailEntry) -> TrailEntry:
        entry = await commit_round(finished, head, self._plan, self._context)
        self._promises.remove(finished.settle)
        self._on_commit(entry)
        return entry

    def _withdraw(self, index: int) -> None:
        if self._following is not None and self._following.record.name.index == index:
            self._following.withdraw(_WITHDRAWN)

    async def _finish(self, index: int, base: GlobalModel) -> Finished:
        """Attempts until one has its model."""
        run = self._following = self._new_round(RoundKind.TRAIN, index)
        fetches = not passes_through(base, self._plan, self._context.algorithm)
        left = self._left.pop(index, None)
        running = left if left is not None and _is_running(left, base.model_id) else None
        unknown = index not in self._attempts
        while True:
            try:
                if running is not None:
                    log.info("round %s was running when the reducer ended: going on with it", running.name)
                    result, running = await run.reattach(running, fetches=fetches), None
                else:
                    number = self._attempts.get(index, 0)
                    result = await run.attempt(
                        number,
                        base.model_id,
                        base.carrier,
                        base.optimizer_states,
                        fetches=fetches,
                        adopts=unknown,
                    )
            finally:
                self._attempts[index], unknown = run.record.name.attempt + 1, False
            reason = result.retry_because
            if reason is None:
                try:
                    finished = await finish_round(run, result, base, self._plan, self._context)
                except RoundSpoiled as error:
                    reason = error.reason
                else:
                    self._promises.append(finished.settle)
                    return finished
            await self._setbacks.after(run, reason)


async def _end(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancels what still runs, and waits until nothing does. What became of it does not matter any more."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _is_running(record: RoundRecord, base_model_id: str) -> bool:
    return record.kind is RoundKind.TRAIN and record.state in _INTERRUPTED and record.base_model_id == base_model_id
