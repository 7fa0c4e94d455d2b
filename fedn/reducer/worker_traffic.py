"""What combiners relayed for one worker group, as its homes reported it: the sum over all its runs.

A home counts from 0 whenever it, or the group, begins again; a report may come twice. So what is new is the difference
to the last report of the same run.
"""

from collections.abc import Iterable

from fedn.protocol.rest import Relayed, WorkerGroupReport, WorkerTraffic

_MAX_RUNS = 4
"""Whose last reports are kept: a late one of an earlier run would count twice."""
_GROWING = tuple(name for name in Relayed.model_fields if name != "spooled_bytes")


class GroupTraffic:
    """Not thread-safe; of this reducer's process."""

    def __init__(self) -> None:
        self._workers: dict[int, WorkerTraffic] = {}
        self._runs: dict[str, dict[int, WorkerTraffic]] = {}

    def note(self, report: WorkerGroupReport, size: int) -> None:
        """What a home said; of ranks that the group of `size` does not have, nothing is kept."""
        earlier = self._runs.setdefault(report.run, {})
        for said in report.workers:
            if said.rank >= size:
                continue
            before, sum_before = earlier.get(said.rank, _NOTHING), self.of(said.rank)
            grown = {
                name: getattr(sum_before, name) + max(0, getattr(said, name) - getattr(before, name))
                for name in _GROWING
            }
            latest = WorkerTraffic.model_validate(said.model_dump(exclude={"rank"}))
            earlier[said.rank] = latest
            self._workers[said.rank] = latest.model_copy(update=grown)
        while len(self._runs) > _MAX_RUNS:
            del self._runs[next(iter(self._runs))]

    def of(self, rank: int) -> WorkerTraffic:
        return self._workers.get(rank, _NOTHING)

    @property
    def total(self) -> Relayed:
        """Of all workers."""
        return total(self._workers.values())


def total(parts: Iterable[Relayed]) -> Relayed:
    """Their sum."""
    sums = dict.fromkeys(Relayed.model_fields, 0)
    for part in parts:
        for name in sums:
            sums[name] += getattr(part, name)
    return Relayed(**sums)


_NOTHING = WorkerTraffic()
