"""Folding in the order of client names, for rounds that must repeat to the bit."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedn.combiner.buffers import Spool, SpoolStorage
from fedn.combiner.totals import Arrived
from fedn.combiner.uploads import copy_into
from fedn.protocol.errors import FednError


class InOrder:
    """Hands updates on in a fixed order. Those out of turn wait in spool files, so that they hold no memory that the
    update whose turn it is may need.

    Args:
        tasks: ids of the tasks, in the order wanted.
        hand_on: gets each update in its turn.
        lost: told of an update that could not be kept.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        spool: Spool,
        hand_on: Callable[[Arrived], None],
        lost: Callable[[Arrived, FednError], None],
    ) -> None:
        self._order = list(tasks)
        self._next = 0
        self._skipped: set[str] = set()
        self._waiting: dict[str, Arrived] = {}
        self._spool = spool
        self._hand_on = hand_on
        self._lost = lost
        self._moving: set[asyncio.Task[None]] = set()

    def put(self, arrived: Arrived) -> None:
        if self._order[self._next] == arrived.task_id or isinstance(arrived.storage, SpoolStorage):
            self._waiting[arrived.task_id] = arrived
            self._advance()
            return
        task = asyncio.create_task(self._set_aside(arrived))
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)

    def skip(self, task_id: str) -> None:
        """No update will come for this task."""
        self._skipped.add(task_id)
        self._advance()

    async def close(self) -> None:
        """Throws away what waits."""
        for task in self._moving:
            task.cancel()
        await asyncio.gather(*self._moving, return_exceptions=True)
        for arrived in self._waiting.values():
            arrived.storage.release()
        self._waiting.clear()

    def _advance(self) -> None:
        while self._next < len(self._order):
            task_id = self._order[self._next]
            arrived = self._waiting.pop(task_id, None)
            if arrived is None and task_id not in self._skipped:
                return
            self._next += 1
            if arrived is not None:
                self._hand_on(arrived)

    async def _set_aside(self, arrived: Arrived) -> None:
        try:
            file = await self._spool.create(arrived.size_bytes)
            await copy_into(file, arrived.storage)
        except FednError as error:
            self._lost(arrived, error)
            return
        finally:
            arrived.storage.release()
        self._waiting[arrived.task_id] = replace(arrived, storage=file)
        self._advance()
