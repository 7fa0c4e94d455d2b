"""The worker groups that are at home at this combiner, by name."""

from collections import deque
from collections.abc import Iterable

from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.options import WorkerLimits
from fedn.combiner.workers.group import Group
from fedn.network.tickets import WorkerTicket
from fedn.plan.logs import bind
from fedn.protocol.errors import Conflict, FednError, LimitExceeded, NotFound
from fedn.protocol.rest import MAX_REPORTED_WORKERS, WorkerGroupReport

_log = bind(__name__)


class Groups:
    """The groups that are at home at this combiner."""

    def __init__(self, name: str, limits: WorkerLimits, metrics: CombinerMetrics) -> None:
        self._name = name
        self._limits = limits
        self._metrics = metrics
        self._groups: dict[str, Group] = {}
        self._last_words: deque[WorkerGroupReport] = deque(maxlen=limits.max_groups)
        """Of groups that are over."""
        metrics.workers.set_function(lambda: sum(group.attached for group in self._groups.values()))
        metrics.worker_spooled_bytes.set_function(lambda: sum(group.held_bytes for group in self._groups.values()))

    def of(self, ticket: WorkerTicket) -> Group:
        """The group that a ticket names, made where it is not there.

        Raises:
            NotFound: (`not_home`) its home is elsewhere.
            Conflict: (`group_changed`) workers of another size of the group are there.
            LimitExceeded: (`too_many_groups`).
        """
        if ticket.home != self._name:
            raise NotFound(
                "not_home",
                f"the group is at home at the combiner {ticket.home!r}",
                fix="Ask the reducer again where it is.",
                where={"group": ticket.group, "combiner": self._name},
            )
        group = self._groups.get(ticket.group)
        if group is not None and group.size != ticket.size:
            raise Conflict(
                "group_changed",
                f"workers of the same group with another size ({group.size}) are still here",
                fix="End them first.",
                where={"group": ticket.group},
            )
        if group is None:
            if len(self._groups) >= self._limits.max_groups:
                raise LimitExceeded(
                    "too_many_groups",
                    f"{self._limits.max_groups} worker groups are at home at this combiner",
                    fix="Wait for the end of one, or raise the combiner's max_worker_groups.",
                    where={"group": ticket.group},
                )
            group = Group(ticket.group, ticket.size, self._limits, self._metrics, lambda: self._forget(ticket.group))
            self._groups[ticket.group] = group
        return group

    def leave_out_empty(self, name: str) -> None:
        """Forgets a group whose first worker was not taken in."""
        group = self._groups.get(name)
        if group is not None and group.is_empty:
            del self._groups[name]

    def end(self, error: FednError) -> None:
        """Says goodbye to all workers."""
        for group in self._groups.values():
            group.end(error)
        self._groups.clear()

    # What the reducer is told

    def news(self) -> tuple[WorkerGroupReport, ...]:
        """What it has not been told: of so many workers that it takes the loop milliseconds; more come next time."""
        reports: list[WorkerGroupReport] = []
        left = MAX_REPORTED_WORKERS
        while self._last_words and len(self._last_words[0].workers) <= left:
            reports.append(self._last_words.popleft())
            left -= len(reports[-1].workers)
        for others, group in zip(reversed(range(len(self._groups))), self._groups.values(), strict=True):
            report = group.report(-(-left // (others + 1)))  # a share, so that no busy group keeps another from its own
            if report is not None:
                reports.append(report)
                left -= len(report.workers)
        return tuple(reports)

    def put_back(self, reports: Iterable[WorkerGroupReport]) -> None:
        """It did not hear them."""
        for report in reports:
            group = self._groups.get(report.group)
            if group is not None and group.tally.run == report.run:
                group.tally.put_back(worker.rank for worker in report.workers)
            else:
                self._last_words.append(report)

    def tell_all_again(self) -> None:
        """It was started anew, and knows nothing."""
        for group in self._groups.values():
            group.tally.put_back()

    def _forget(self, name: str) -> None:
        group = self._groups.pop(name, None)
        if group is not None:
            while (report := group.report(MAX_REPORTED_WORKERS)) is not None:
                self._last_words.append(report)
            _log.info("a worker group is over", extra={"group": name})
