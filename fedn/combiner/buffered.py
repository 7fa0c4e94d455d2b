"""A round of which the sums are handed up while it goes on, and to which tasks are added: of an asynchronous session.

It holds all tasks that start from one global model. Updates are summed as differences to it, so that the reducer can
apply them to a later one (FedBuff, Nguyen et al. 2022); with a rule that goes by clients' latest updates they replace
earlier ones, and what is handed up is the mean of all that count at this combiner. It ends when the reducer closes,
cancels or releases it: a task that takes too long is late by itself.
"""

import asyncio

from fedn.combiner.results import RoundServices
from fedn.combiner.round import Round, Stage
from fedn.combiner.tasks import OpenTask
from fedn.combiner.uploads import Phase
from fedn.protocol.errors import FednError
from fedn.protocol.rounds import RoundSpec


class BufferedRound(Round):
    """See the module, and `Round`."""

    def __init__(self, spec: RoundSpec, services: RoundServices) -> None:
        super().__init__(spec, services)
        self._handing = asyncio.Lock()
        self._asked = 0
        """Number of the last hand-up that was asked for."""
        self._handed: dict[int, str] = {}
        """Number of each hand-up that is not durable yet, to its model."""
        self._deadlines: dict[str, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Also without tasks: they may come, and what is there already may be asked for."""
        self._set_out()

    def grow(self, spec: RoundSpec) -> dict[str, OpenTask]:
        """Adds the tasks that are new, and starts them; by their ids."""
        added = {task.task_id: OpenTask(task) for task in spec.tasks if task.task_id not in self.tasks}
        if not added or self.stage is not Stage.RUNNING:
            return {}
        self._results.grow(spec)
        self.tasks |= added
        self._open += len(added)
        for task in added.values():
            self._by_client.setdefault(task.spec.client, []).append(task)
            for object_id in {task.spec.model_id, task.spec.package_id} - self._needs - {""}:
                self._needs.add(object_id)
                self._services.objects.pin(object_id, self.name)
            self._arm_task(task)
        self._begin(tuple(added.values()))
        return added

    def hand_up(self, number: int, members: frozenset[str]) -> None:
        """Tells of the sum of what is in, as an event with this number; nothing where it was asked for before.

        Args:
            members: as for `Results.hand_up`.
        """
        if number > self._asked and self.takes_answers:
            self._asked = number
            self._jobs.start(self._hand_up(number, members))

    def forget(self, number: int) -> None:
        """What was handed up under this number is durable."""
        object_id = self._handed.pop(number, "")
        # Two sums may be the same to the byte, and then are one object.
        if object_id and object_id not in self._handed.values():
            self._services.objects.let_go(object_id, self.name)

    @property
    def remaining_s(self) -> float:
        return self.spec.deadline_s

    async def _hand_up(self, number: int, members: frozenset[str]) -> None:
        async with self._handing:
            try:
                result = await self._results.hand_up(members)
            except FednError as error:
                self._abort(f"failed: {error.message}", error.message)
                return
            if not self.done:
                self._handed[number] = result.model_id
                self.events.handed_up(number, result)

    async def _seal(self) -> None:
        async with self._handing:
            await super()._seal()

    def _arm(self) -> None:
        for task in self.tasks.values():
            self._arm_task(task)

    def _arm_task(self, task: OpenTask) -> None:
        self._deadlines[task.spec.task_id] = self._loop.call_later(self.spec.deadline_s, self._overdue, task)

    def _overdue(self, task: OpenTask) -> None:
        progressing = task.upload is not None and task.upload.phase is not Phase.PARKED
        if progressing and self.spec.upload_grace_s > 0:
            later = self._loop.call_later(self.spec.upload_grace_s, self._task_grace_over, task)
            self._deadlines[task.spec.task_id] = later
        else:
            self._task_grace_over(task)

    def _task_grace_over(self, task: OpenTask) -> None:
        del self._deadlines[task.spec.task_id]
        if not task.answered and self.stage is Stage.RUNNING:
            self._late(task, "deadline")

    def _complete(self) -> None:
        if self.stage is Stage.CLOSING:
            super()._complete()

    def _stop_timers(self) -> None:
        super()._stop_timers()
        for timer in self._deadlines.values():
            timer.cancel()
        self._deadlines.clear()


def round_of(spec: RoundSpec, services: RoundServices) -> Round:
    """The round that a spec asks for, not started yet."""
    return BufferedRound(spec, services) if spec.buffered else Round(spec, services)
