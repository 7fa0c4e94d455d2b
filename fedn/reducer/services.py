"""The reducer's parts by name, as the REST API and the pages see them."""

from collections.abc import Callable
from dataclasses import dataclass

from flask import current_app

from fedn.plan.settings import ReducerSettings
from fedn.protocol.rest.accounting import Account
from fedn.protocol.rest.statistics import Times
from fedn.reducer.assignment import Assigner
from fedn.reducer.catalog import Catalog
from fedn.reducer.detours.desk import RelayDesk
from fedn.reducer.enrolment import Enrolment
from fedn.reducer.events import EventLog
from fedn.reducer.garbage import GarbageCollector
from fedn.reducer.guard import SecretGuard
from fedn.reducer.health import StoreHealth
from fedn.reducer.metrics import Metrics
from fedn.reducer.pages.live import LiveViews
from fedn.reducer.registry import Registry
from fedn.reducer.sessions import Sessions
from fedn.reducer.trail import Trail
from fedn.reducer.uploads import Spool
from fedn.reducer.watching.history import History
from fedn.reducer.watching.marks import RoundMarks
from fedn.reducer.watching.sums import RoundSums
from fedn.reducer.watching.visitors import Visitors
from fedn.reducer.watching.vitals import Vitals
from fedn.reducer.worker_groups import WorkerGroups
from fedn.stores.base import ModelStore

_KEY = "fedn"


@dataclass(frozen=True)
class Watching:
    """What only pages want to know."""

    visitors: Visitors
    marks: RoundMarks
    vitals: Vitals
    history: History
    accounts: RoundSums[Account]
    times: RoundSums[Times]


def start_watching(events: EventLog, sessions: Sessions, trail: Trail) -> Watching:
    """Listens to the event log from now on."""
    watching = Watching(
        Visitors(),
        RoundMarks(),
        Vitals(),
        History(sessions, trail),
        RoundSums(sessions, Account),
        RoundSums(sessions, lambda session: Times()),
    )
    events.add_listener(watching.visitors.note_event)
    events.add_listener(watching.marks.note_event)
    return watching


@dataclass(frozen=True)
class Services:
    settings: ReducerSettings
    enrolment: Enrolment
    enrolment_guard: SecretGuard
    enrolment_secret: str
    """Goes into join strings."""
    admin_guard: SecretGuard
    registry: Registry
    assigner: Assigner
    worker_groups: WorkerGroups
    relay_desk: RelayDesk
    sessions: Sessions
    trail: Trail
    catalog: Catalog
    models: ModelStore
    events: EventLog
    garbage: GarbageCollector
    health: StoreHealth
    metrics: Metrics
    spool: Spool
    watching: Watching
    live: LiveViews
    epoch: int
    started_at: float
    """Unix time in seconds."""
    url: Callable[[], str]
    """Address for join strings, once the port is known."""
    make_room: Callable[[int], None]
    """Called with the number of open event streams, before another one is served."""


def services() -> Services:
    """The parts behind the request that is being answered."""
    found: Services = current_app.extensions[_KEY]
    return found


def register_services(extensions: dict[str, object], parts: Services) -> None:
    extensions[_KEY] = parts
