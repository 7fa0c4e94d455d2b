"""The worker groups that are at home at this combiner, by name."""

from fedn.combiner.metrics import CombinerMetrics
from fedn.combiner.options import WorkerLimits
from fedn.combiner.workers.group import Group
from fedn.network.tickets import WorkerTicket
from fedn.plan.logs import bind
from fedn.protocol.errors import Conflict, FednError, LimitExceeded, NotFound

_log = bind(__name__)


class Groups:
    """The groups that are at home at this combiner."""

    def __init__(self, name: str, limits: WorkerLimits, metrics: CombinerMetrics) -> None:
        self._name = name
        self._limits = limits
        self._metrics = metrics
        self._groups: dict[str, Group] = {}
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

    def _forget(self, name: str) -> None:
        group = self._groups.pop(name, None)
        if group is not None:
            _log.info("a worker group is over", extra={"group": name})
