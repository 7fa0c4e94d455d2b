"""Worker groups: their names, sizes and scopes, which client is which rank, and the combiner where each group meets.

They are kept in the state store, so that ranks and homes outlive the reducer's process. Who is attached now, and what
was relayed, the home alone knows: it reports that with its heartbeats, and again to a reducer that was started anew.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from fedn.network.tickets import TicketIssuer, WorkerTicket
from fedn.protocol.errors import Conflict, Forbidden, InvalidInput, LimitExceeded, NotFound
from fedn.protocol.names import check_name
from fedn.protocol.rest import WorkerGroupReport, WorkerGroupRequest, WorkerGroupView, WorkerMember, WorkerTraffic
from fedn.reducer.assignment import Refusal
from fedn.reducer.registry import CombinerRecord, Registry
from fedn.reducer.worker_traffic import GroupTraffic
from fedn.stores.base import StateStore

WORKER_GROUPS = "worker_groups"
_RETRY_S = 1.0


@dataclass(frozen=True)
class WorkerGroup:
    """One group, as it is stored."""

    name: str
    size: int
    clients: tuple[str, ...]
    created_at: float
    """Unix time in seconds."""
    home: str = ""
    members: Mapping[int, str] = field(default_factory=dict)
    """Rank to client."""

    def view(self, traffic: GroupTraffic, *, home_alive: bool) -> WorkerGroupView:
        members = tuple(
            WorkerMember(rank=rank, client=client, traffic=_now(traffic.of(rank), home_alive=home_alive))
            for rank, client in sorted(self.members.items())
        )
        return WorkerGroupView(
            name=self.name,
            size=self.size,
            clients=self.clients,
            members=members,
            home=self.home,
            created_at=self.created_at,
            attached=sum(member.traffic.state == "attached" for member in members),
            traffic=traffic.total,
        )

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return self.view(GroupTraffic(), home_alive=False).model_dump(
            mode="json",
            include={
                "name": True,
                "size": True,
                "clients": True,
                "members": {"__all__": {"rank", "client"}},
                "home": True,
                "created_at": True,
            },
        )

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "WorkerGroup":
        view = WorkerGroupView.model_validate(document)
        members = {member.rank: member.client for member in view.members}
        return cls(view.name, view.size, view.clients, view.created_at, view.home, members)


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker is told: its rank and ticket, and where to attach."""

    group: WorkerGroup
    rank: int
    combiner: CombinerRecord
    ticket: str


class WorkerGroups:
    """Thread-safe. `start` reads what there is.

    Args:
        tickets: makes what combiners know workers by.
        ttl_s: life of a ticket.
        max_groups, max_size: more are refused.
        dead_after_s: a home that shows no sign of life for so long is given up for another one.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        state: StateStore,
        registry: Registry,
        tickets: TicketIssuer,
        *,
        ttl_s: float,
        max_groups: int,
        max_size: int,
        dead_after_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._registry = registry
        self._tickets = tickets
        self._ttl_s = ttl_s
        self._max_groups, self._max_size = max_groups, max_size
        self._dead_after_s = dead_after_s
        self._clock = clock
        self._started_at = clock()
        self._lock = threading.Lock()
        self._groups: dict[str, WorkerGroup] = {}
        self._traffic: defaultdict[str, GroupTraffic] = defaultdict(GroupTraffic)

    def start(self) -> None:
        for document in self._state.find(WORKER_GROUPS, order_by="name"):
            group = WorkerGroup.read(document)
            self._groups[group.name] = group

    def create(self, wanted: WorkerGroupRequest) -> WorkerGroupView:
        """Makes a group.

        Raises:
            Conflict: (`worker_group_exists`) there is one of this name.
            InvalidInput: `bad_name`.
            LimitExceeded: `worker_group_too_large`, `too_many_groups`.
        """
        check_name(wanted.name, what="worker group")
        if wanted.size > self._max_size:
            raise LimitExceeded(
                "worker_group_too_large",
                f"a worker group has {self._max_size} workers at the most, not {wanted.size}",
                fix="Raise the reducer's max_worker_group_size.",
                where={"group": wanted.name},
            )
        with self._lock:
            if wanted.name in self._groups:
                raise Conflict(
                    "worker_group_exists",
                    "there is a worker group of this name",
                    fix="Delete it (fedn worker group delete), or choose another name.",
                    where={"group": wanted.name},
                )
            if len(self._groups) >= self._max_groups:
                raise LimitExceeded(
                    "too_many_groups",
                    f"the reducer knows {self._max_groups} worker groups",
                    fix="Delete old ones, or raise the reducer's max_worker_groups.",
                )
            group = WorkerGroup(wanted.name, wanted.size, wanted.clients, self._clock())
            self._keep(group)
            return self._views([group])[0]

    def list(self) -> list[WorkerGroupView]:
        """By name."""
        with self._lock:
            return list(self._views(group for _, group in sorted(self._groups.items())))

    def get(self, name: str) -> WorkerGroupView:
        """NotFound (`no_such_worker_group`)."""
        with self._lock:
            return self._views([self._find(name)])[0]

    def delete(self, name: str) -> None:
        """Forgets a group; workers that are attached go on. NotFound (`no_such_worker_group`)."""
        with self._lock:
            self._find(name)
            self._state.delete(WORKER_GROUPS, name)
            del self._groups[name]
            self._traffic.pop(name, None)

    def note(self, combiner: str, reports: Iterable[WorkerGroupReport]) -> None:
        """What a combiner says of groups; of those that are not at home there, nothing is kept."""
        with self._lock:
            for report in reports:
                group = self._groups.get(report.group)
                if group is not None and group.home == combiner:
                    self._traffic[group.name].note(report, group.size)

    def free_ranks_of(self, client: str) -> None:
        """A client is no longer of the federation."""
        with self._lock:
            for group in list(self._groups.values()):
                if client in group.members.values():
                    members = {rank: who for rank, who in group.members.items() if who != client}
                    self._keep(replace(group, members=members))

    def join(
        self, client: str, name: str, rank: int | None, *, combiner: str = "", avoid: Sequence[str] = ()
    ) -> WorkerPlace | Refusal:
        """A client's place in a group: the rank that it asks for, or has, or the next free one.

        Args:
            combiner: where it would attach, unless that is to be avoided; empty: at the home.
            avoid: combiners that it tried in vain.

        Raises:
            NotFound: `no_such_worker_group`.
            Forbidden: (`not_in_scope`) its token does not open this group.
            Conflict: (`rank_given`) another client has this rank; (`worker_group_full`) no rank is free.
            InvalidInput: (`no_such_worker`) the group has no such rank.
        """
        with self._lock:
            group = self._with_member(self._find(name), client, rank)
            home = self._home_of(group)
            if isinstance(home, Refusal):
                self._keep(group)
                return home
            group = replace(group, home=home.name)
            self._keep(group)
        mine = next(rank for rank, who in group.members.items() if who == client)
        entrance = self._entrance(home, combiner, avoid)
        ticket = WorkerTicket(
            client=client,
            group=name,
            size=group.size,
            rank=mine,
            entrance=entrance.name,
            home=home.name,
            host=home.host,
            port=home.port,
            expires_at=self._clock() + self._ttl_s,
        )
        return WorkerPlace(group, mine, entrance, self._tickets.issue(ticket))

    def _views(self, groups: Iterable[WorkerGroup]) -> Sequence[WorkerGroupView]:
        alive = {record.name for record in self._registry.combiners() if record.alive}
        return [group.view(self._traffic[group.name], home_alive=group.home in alive) for group in groups]

    def _with_member(self, group: WorkerGroup, client: str, rank: int | None) -> WorkerGroup:
        if group.clients and not any(fnmatchcase(client, pattern) for pattern in group.clients):
            raise Forbidden(
                "not_in_scope",
                f"the client {client!r} is not one of those whose tokens open this group",
                fix="Name it when the group is made: fedn worker group create NAME --client CLIENT.",
                where={"group": group.name, "client": client},
            )
        own = next((number for number, who in group.members.items() if who == client), None)
        if rank is None:
            rank = own if own is not None else _next_free(group)
        if rank >= group.size:
            raise InvalidInput(
                "no_such_worker",
                f"There is no worker {rank}: there are the workers 0 to {group.size - 1}",
                where={"group": group.name},
            )
        holder = group.members.get(rank, client)
        if holder != client:
            raise Conflict(
                "rank_given",
                f"the client {holder!r} is worker {rank} of the group",
                fix="Ask for no rank, or for another one.",
                where={"group": group.name, "client": client},
            )
        others = {number: who for number, who in group.members.items() if who != client}
        return replace(group, members={**others, rank: client})

    def _home_of(self, group: WorkerGroup) -> CombinerRecord | Refusal:
        """Where the group meets. It moves only when its home is certainly dead: else half of it would be elsewhere."""
        records = {record.name: record for record in self._registry.combiners()}
        home = records.get(group.home)
        if home is not None and home.alive:
            return home
        if home is not None:
            silent_s = self._clock() - max(home.last_heartbeat, self._started_at)
            if silent_s <= self._dead_after_s:
                return Refusal("home_away", f"the combiner {home.name!r}, where the group meets, is away", _RETRY_S)
        alive = [record for record in records.values() if record.alive]
        if not alive:
            return Refusal("no_combiner", "no combiner is alive now", _RETRY_S)
        homes = Counter(other.home for other in self._groups.values())
        return min(alive, key=lambda record: (homes[record.name], record.attached, record.name))

    def _entrance(self, home: CombinerRecord, preferred: str, avoid: Sequence[str]) -> CombinerRecord:
        """Where the worker attaches: where it likes, at the home, or elsewhere if it cannot reach these."""
        alive = [record for record in self._registry.combiners() if record.alive and record.name not in avoid]
        wanted = [record for record in alive if record.name in {preferred, home.name}]
        wanted.sort(key=lambda record: record.name != preferred)
        return next(iter(wanted or sorted(alive, key=lambda record: record.attached)), home)

    def _find(self, name: str) -> WorkerGroup:
        group = self._groups.get(name)
        if group is None:
            raise NotFound(
                "no_such_worker_group",
                "there is no such worker group",
                fix="Make it with: fedn worker group create NAME --size N.",
                where={"group": name},
            )
        return group

    def _keep(self, group: WorkerGroup) -> None:
        if self._groups.get(group.name) != group:
            self._state.put(WORKER_GROUPS, group.name, group.document())
            self._groups[group.name] = group


def _next_free(group: WorkerGroup) -> int:
    for rank in range(group.size):
        if rank not in group.members:
            return rank
    raise Conflict(
        "worker_group_full",
        f"all {group.size} ranks of the group are given",
        fix="Make a larger group, or remove clients that are gone (fedn client remove).",
        where={"group": group.name},
    )


def _now(traffic: WorkerTraffic, *, home_alive: bool) -> WorkerTraffic:
    """Nobody is attached to a home that is gone, whatever it said last."""
    if home_alive or traffic.state != "attached":
        return traffic
    return traffic.model_copy(update={"state": "away"})
