"""A round of very many clients, simulated: processors that programs share, links, tiers. Pure: nothing is measured.

A discrete-event model with fluid service. Clients travel in groups. Each group passes, in this order,

    reducer (cohort, task) → combiner (send) → link down → client → link up → combiner (receive, sum) → reducer (event)

and behind the last one the reducer collects and averages the combiners' models and commits. A program works on one
thing at a time, in the order of arrival, at most one processor at a time: one event loop, one interpreter lock. The
programs of a host that have work share its cores evenly. A link carries one group at a time at its full speed. What
is left out: memory (it does not bound the time), losses, failures, and clients that differ from one another.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_GROUPS = 64
_GROUPS_IN_ALL = 6400
_FEWEST_GROUPS = 4
"""Groups of the clients of one combiner: more make the simulation finer and slower."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Processor seconds, and seconds that pass; as `benchmarks.calibration` finds them, or assumed."""

    combiner_s: float = 0.0
    """For each round at each combiner."""
    combiner_client_s: float
    """For each client and round: task and model out, update in, checks, sum."""
    combiner_idle: float = 0.0
    """Part of a processor that a combiner needs for each attached client, whatever else happens: heartbeats."""
    reducer_s: float = 0.0
    """For each round."""
    reducer_client_s: float
    """For each client and round: cohort, task, ledger, events, its line in the trail."""
    reducer_model_s: float = 0.0
    """For each combiner's model beyond the first: averaged at the reducer."""
    client_s: float = 0.0
    """For each client and round, where clients share a host; else the time that a client trains."""
    down_share: float = 0.4
    """Part of a combiner's work for a client that sends; the rest receives and adds up."""
    first_share: float = 0.5
    """Part of the reducer's work for a client before its task leaves; the rest follows the update."""
    stretch: float = 1.0
    """By what a measured round is longer than a simulated one."""


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Where the programs run."""

    clients: int
    combiners: int = 1
    combiners_per_host: int = 1
    host_cores: float = 2.0
    """Of each combiner host; of the one host, where all is on it."""
    model_bytes: float = 400_000.0
    one_host: bool = False
    """Reducer, combiners and clients share one host, and the links between them cost nothing."""
    client_processes: int = 2
    """Of the clients, where they share that host."""
    link_bytes_per_s: float = 1.25e9
    """Of a combiner host, each way, and of the reducer's host."""
    client_bytes_per_s: float = 12.5e6
    """Of each client, each way."""
    latency_s: float = 0.02
    """Between a client and its combiner, one way."""

    def __post_init__(self) -> None:
        if not 1 <= self.combiners <= self.clients or self.combiners_per_host < 1 or self.host_cores <= 0:
            raise ValueError("a federation needs a client for each combiner, and a host to run on")

    @property
    def hosts(self) -> int:
        """That run combiners."""
        return 1 if self.one_host else -(-self.combiners // self.combiners_per_host)


@dataclass(frozen=True)
class Outcome:
    """One round."""

    round_s: float
    busy_s: dict[str, float]
    """Processor or transfer seconds by kind of station: reducer, combiners, clients, down, up. A combiner that answers
    heartbeats meanwhile is busy for longer than its work."""
    work_s: float
    """Processor seconds of the combiners' work for the round alone."""
    passed: int
    """Clients whose update came through."""
    longest: str
    """The kind of station with the most work on a single one: what bounds the round."""


def simulate(federation: Federation, costs: Costs) -> Outcome:
    """One round, from its start to its commit.

    Raises:
        ValueError: the heartbeats alone are more than a combiner can do.
    """
    spare = 1 - costs.combiner_idle * math.ceil(federation.clients / federation.combiners)
    if spare <= 0:
        raise ValueError(f"a combiner cannot even answer {federation.clients // federation.combiners} idle clients")
    world = _World()
    parts = _Parts.of(world, federation)
    groups = _groups_of(federation)
    finished = 0

    def arrived(count: int) -> None:
        nonlocal finished
        finished += count

    def send(place: int, count: int) -> None:
        combiner, down, up = parts.combiners[place], parts.downs[place], parts.ups[place]
        transfer_s = 0.0 if federation.one_host else count * federation.model_bytes / federation.link_bytes_per_s
        own_s = 0.0 if federation.one_host else federation.model_bytes / federation.client_bytes_per_s
        away_s = 0.0 if federation.one_host else federation.latency_s + own_s
        send_s = count * costs.combiner_client_s * costs.down_share / spare
        receive_s = count * costs.combiner_client_s * (1 - costs.down_share) / spare
        event_s = count * costs.reducer_client_s * (1 - costs.first_share)

        def event() -> None:
            parts.reducer.work(event_s, lambda: arrived(count))

        def receive() -> None:
            combiner.work(receive_s, event)

        def upload() -> None:
            up.work(transfer_s, lambda: world.after(away_s, receive))

        def train() -> None:
            if parts.clients:
                parts.next_client().work(count * costs.client_s, upload)
            else:
                world.after(costs.client_s, upload)

        def download() -> None:
            down.work(transfer_s, lambda: world.after(away_s, train))

        combiner.work(send_s, download)

    def start() -> None:
        for place, counts in enumerate(groups):
            parts.combiners[place].work(costs.combiner_s / spare, lambda: None)
            for count in counts:
                send(place, count)

    # All tasks are made before the first one leaves.
    parts.reducer.work(federation.clients * costs.reducer_client_s * costs.first_share, start)
    world.run()
    models_s = (federation.combiners - 1) * costs.reducer_model_s
    collect_s = federation.combiners * federation.model_bytes / federation.link_bytes_per_s
    parts.reducer.work(costs.reducer_s + models_s, lambda: None)
    world.run()
    round_s = world.now + (0.0 if federation.one_host else 2 * collect_s)
    kinds = parts.by_kind()
    busy = {kind: sum(station.done_s for station in stations) for kind, stations in kinds.items()}
    most = {kind: max((station.done_s for station in stations), default=0.0) for kind, stations in kinds.items()}
    work_s = spare * busy["combiners"]
    return Outcome(costs.stretch * round_s, busy, work_s, finished, max(most, key=lambda kind: most[kind]))


def _groups_of(federation: Federation) -> list[list[int]]:
    """For each combiner, the sizes of its groups; all together are the clients."""
    found = []
    for place in range(federation.combiners):
        count = federation.clients // federation.combiners + (place < federation.clients % federation.combiners)
        groups = min(_GROUPS, max(_FEWEST_GROUPS, _GROUPS_IN_ALL // federation.combiners), count)
        found.append([count // groups + (number < count % groups) for number in range(groups)])
    return found


class _World:
    """Time, and what happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.hosts: list[_Host] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), then))

    def run(self) -> None:
        """Until nothing is left to do."""
        while self._timers:
            self.now, _, then = heapq.heappop(self._timers)
            then()


class _Host:
    """Cores that its stations share evenly, each at most one of them."""

    def __init__(self, world: _World, cores: float) -> None:
        self.world = world
        self.cores = cores
        self.working: list[_Station] = []
        self._since = 0.0
        self._plan = 0

    def changed(self, change: Callable[[], None]) -> None:
        """Moves every station on to now, applies a change to who works, and plans the next end."""
        world = self.world
        rate = self._rate()
        for station in self.working:
            station.left_s -= (world.now - self._since) * rate
        self._since = world.now
        change()
        self._plan += 1
        if self.working:
            number = self._plan
            soonest = min(self.working, key=lambda station: station.left_s)
            world.after(max(0.0, soonest.left_s) / self._rate(), lambda: self._due(number, soonest))

    def _rate(self) -> float:
        return min(1.0, self.cores / len(self.working)) if self.working else 1.0

    def _due(self, number: int, station: "_Station") -> None:
        if number == self._plan:
            station.finish()


@dataclass(eq=False)
class _Station:
    """A program, or one direction of a link: one thing at a time, first come, first served."""

    host: _Host
    left_s: float = 0.0
    """Of what it works on."""
    done_s: float = 0.0
    _queue: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)
    _then: Callable[[], None] | None = None

    def work(self, seconds: float, then: Callable[[], None]) -> None:
        """So much processor time; calls `then` when it is done."""
        self._queue.append((seconds, then))
        if self._then is None:
            self.host.changed(self._begin)

    def finish(self) -> None:
        """What it works on is done."""
        then, self._then = self._then, None

        def change() -> None:
            self.host.working.remove(self)
            if self._queue:
                self._begin()

        self.host.changed(change)
        if then is not None:
            then()

    def _begin(self) -> None:
        seconds, self._then = self._queue.popleft()
        self.left_s = seconds
        self.done_s += seconds
        self.host.working.append(self)


@dataclass
class _Parts:
    """The stations of a federation."""

    reducer: _Station
    combiners: list[_Station]
    downs: list[_Station]
    ups: list[_Station]
    """Of each combiner: those on one host share a link each way."""
    clients: list[_Station]
    _turn: int = 0

    @classmethod
    def of(cls, world: _World, federation: Federation) -> "_Parts":
        def alone() -> _Host:
            return _Host(world, math.inf)

        if federation.one_host:
            host = _Host(world, federation.host_cores)
            loop = _Station(alone())
            combiners = [_Station(host) for _ in range(federation.combiners)]
            clients = [_Station(host) for _ in range(federation.client_processes)]
            return cls(_Station(host), combiners, [loop] * len(combiners), [loop] * len(combiners), clients)
        combiners, downs, ups = [], [], []
        for first in range(0, federation.combiners, federation.combiners_per_host):
            host, down, up = _Host(world, federation.host_cores), _Station(alone()), _Station(alone())
            count = min(federation.combiners_per_host, federation.combiners - first)
            combiners += [_Station(host) for _ in range(count)]
            downs += [down] * count
            ups += [up] * count
        return cls(_Station(alone()), combiners, downs, ups, [])

    def next_client(self) -> _Station:
        """The processes of the clients take groups in turn."""
        self._turn += 1
        return self.clients[self._turn % len(self.clients)]

    def by_kind(self) -> dict[str, list[_Station]]:
        return {
            "reducer": [self.reducer],
            "combiners": self.combiners,
            "clients": self.clients,
            "down": list({id(one): one for one in self.downs}.values()),
            "up": list({id(one): one for one in self.ups}.values()),
        }
